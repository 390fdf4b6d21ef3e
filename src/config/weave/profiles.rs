//! Profiles: the site's own, and those that ship, which are there for any unit that names one.

use super::Weave;
use crate::config::{device, shipped};
use crate::profile::Profile;

impl Weave {
    /// Takes the site's own profiles.
    pub(super) fn profiles(&mut self, profiles: Vec<Profile>) {
        for profile in profiles {
            let key = format!("profile[{}]", profile.id);
            self.rules.name(format!("{key}.id"), &profile.id);
            if shipped::is_shipped(&profile.id) {
                let text = format!(
                    "\"{}\" ships with parkway: use it as it is, or give yours another id",
                    profile.id
                );
                self.rules.refuse(format!("{key}.id"), text);
            }
            self.add_profile(&key, profile);
        }
    }

    fn add_profile(&mut self, key: &str, profile: Profile) {
        let ix = self.site.profiles.len();
        self.rules.add(key, "profile", &profile.id, ix, &mut self.profile_ids);
        device::profile(&mut self.rules, key, &profile);
        self.site.profiles.push(profile);
    }

    /// Which profile a unit means.
    pub(super) fn find_profile(&mut self, key: &str, id: &str) -> u32 {
        if !self.profile_ids.contains_key(id)
            && let Some(profile) = shipped::profile(id)
        {
            self.add_profile(&format!("profile[{id}]"), profile);
        }
        if let Some(ix) = self.profile_ids.get(id) {
            return *ix;
        }
        // A misspelt name may be meant for one that ships.
        let mut known = self.profile_ids.clone();
        known.extend(shipped::ids().map(|id| (id.to_owned(), 0)));
        self.rules.find(key, "profile", id, &known)
    }
}
