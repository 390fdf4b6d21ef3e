//! All kept values as committed, in memory beside the store that holds them.
//!
//! Where a store is opened anew in the same run, a failed commit may have left some of its values
//! in it; a kill before they are written again would keep them without the records that tell of
//! them. And where another store takes its place, that one knows no promise and no closure. Both
//! are made right from here. At a full site it is some hundred KiB.

use std::collections::BTreeMap;

use sled::Tree;

/// The values by key.
#[derive(Debug, Default)]
pub struct Mirror {
    values: BTreeMap<String, Vec<u8>>,
}

impl Mirror {
    /// Of a store as it was found at the start.
    pub fn of(entries: &[(String, Vec<u8>)]) -> Mirror {
        Mirror { values: entries.iter().cloned().collect() }
    }

    /// Follows a commit that succeeded.
    pub fn follow(&mut self, changes: BTreeMap<String, Option<Vec<u8>>>) {
        for (key, value) in changes {
            match value {
                Some(value) => _ = self.values.insert(key, value),
                None => _ = self.values.remove(&key),
            }
        }
    }

    /// Makes a tree hold what was committed and nothing else.
    ///
    /// # Errors
    ///
    /// What sled says.
    pub fn restore(&self, tree: &Tree) -> Result<(), sled::Error> {
        for entry in tree {
            let (key, _) = entry?;
            if !std::str::from_utf8(&key).is_ok_and(|key| self.values.contains_key(key)) {
                tree.remove(key)?;
            }
        }
        for (key, value) in &self.values {
            if tree.get(key)?.is_none_or(|there| there != value.as_slice()) {
                tree.insert(key, value.as_slice())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_becomes_what_was_committed() {
        let db = sled::Config::new().temporary(true).open().unwrap();
        let entry = |key: &str, value: &str| (key.to_owned(), value.as_bytes().to_vec());
        let mut mirror = Mirror::of(&[entry("a", "old"), entry("gone", "x"), entry("stays", "s")]);
        mirror.follow(BTreeMap::from([
            ("a".to_owned(), Some(b"new".to_vec())),
            ("gone".to_owned(), None),
        ]));
        for (key, value) in [("a", "half"), ("gone", "x"), ("half", "h"), ("stays", "s")] {
            db.insert(key, value).unwrap();
        }
        for _ in 0..2 {
            mirror.restore(&db).unwrap();
            let all: Vec<_> = db.iter().map(|entry| entry.unwrap()).collect();
            let all: Vec<_> = all.iter().map(|(key, value)| (&key[..], &value[..])).collect();
            assert_eq!(all, [(&b"a"[..], &b"new"[..]), (b"stays", b"s")]);
            // And the same where there is nothing yet.
            db.clear().unwrap();
        }
    }
}
