//! The profiles that ship with parkway, compiled in: a unit of any site may name one.
//!
//! Each is a file of `config/profiles/` in the form that a site's own has, so that it can be read,
//! copied and changed under another id. A test runs their vectors.

use serde::Deserialize;

use crate::profile::Profile;
use crate::site::Site;

/// Id and text.
const SHIPPED: [(&str, &str); 6] = [
    ("packed-bits", include_str!("../../config/profiles/packed-bits.toml")),
    ("ld120", include_str!("../../config/profiles/ld120.toml")),
    ("sen0754", include_str!("../../config/profiles/sen0754.toml")),
    ("dm36", include_str!("../../config/profiles/dm36.toml")),
    ("io-16", include_str!("../../config/profiles/io-16.toml")),
    ("bay-lamp", include_str!("../../config/profiles/bay-lamp.toml")),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    profile: [Profile; 1],
}

/// Whether a profile of this id ships.
pub fn is_shipped(id: &str) -> bool {
    ids().any(|shipped| shipped == id)
}

/// The ids of all that ship.
pub fn ids() -> impl Iterator<Item = &'static str> {
    SHIPPED.iter().map(|(id, _)| *id)
}

/// The profile of this id, where one ships.
pub fn profile(id: &str) -> Option<Profile> {
    SHIPPED.iter().find(|(shipped, _)| *shipped == id).map(|(_, text)| parse(text))
}

/// All that ship.
pub fn all() -> Vec<Profile> {
    SHIPPED.iter().map(|(_, text)| parse(text)).collect()
}

/// Ids of the shipped profiles that some unit of the site uses, in the site's order.
pub fn used(site: &Site) -> Vec<&str> {
    let ids = site.profiles.iter().map(|profile| profile.id.as_str());
    ids.filter(|id| is_shipped(id)).collect()
}

fn parse(text: &str) -> Profile {
    let file: File = toml::from_str(text).expect("a test reads all that ship");
    let [profile] = file.profile;
    profile
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::check::Rules;
    use crate::config::device;

    #[test]
    fn all_that_ships_passes_the_rules_and_its_own_vectors() {
        for ((id, _), profile) in SHIPPED.iter().zip(all()) {
            assert_eq!(*id, profile.id, "the file's name is not its id");
            assert!(!profile.vectors.is_empty(), "{id} has no test vector");
            let mut rules = Rules::new(format!("{id}.toml").into());
            rules.name("id", id);
            device::profile(&mut rules, id, &profile);
            assert_eq!(rules.problems, [], "{id}");
        }
    }

    #[test]
    fn no_file_is_forgotten() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/config/profiles");
        let files = std::fs::read_dir(folder).expect("the folder is there");
        let name = |file: std::fs::DirEntry| file.file_name().to_string_lossy().into_owned();
        let mut files: Vec<String> = files.map(|file| name(file.expect("it is listed"))).collect();
        files.sort();
        let mut shipped: Vec<String> = ids().map(|id| format!("{id}.toml")).collect();
        shipped.sort();
        assert_eq!(files, shipped);
    }
}
