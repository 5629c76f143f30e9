//! The catalogue of reusable faults: the `faults/` folder, embedded in the binary.
//!
//! A profile holds the keys of a fault without its `target`; its leading comment names the real
//! failure that it mimics.

/// A reusable fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// `llm/stalled_stream`: the folder is the kind of dependency.
    pub name: &'static str,
    /// The YAML.
    pub text: &'static str,
}

/// All profiles, by name: the files below `faults/`, as the build script lists them.
pub const PROFILES: &[Profile] = include!(concat!(env!("OUT_DIR"), "/profiles.rs"));

impl Profile {
    /// The name without its folder.
    pub fn short_name(&self) -> &'static str {
        self.name.rsplit('/').next().unwrap_or(self.name)
    }

    /// The leading comment as text: the real failure that this mimics.
    pub fn comment(&self) -> String {
        let lines = self.text.lines().take_while(|line| line.starts_with('#'));
        let words: Vec<&str> = lines.map(|line| line.trim_start_matches('#').trim()).collect();
        words.join(" ").trim().to_owned()
    }
}

/// What a name in `use:` stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    One(Profile),
    /// A short name that several folders hold.
    Several(Vec<&'static str>),
    Nothing,
}

/// Finds a profile by its full or its short name; `-` and `_` are the same.
pub fn find(name: &str) -> Found {
    let wanted = name.trim().trim_end_matches(".yaml").replace('-', "_");
    if let Some(exact) = PROFILES.iter().find(|one| one.name == wanted) {
        return Found::One(*exact);
    }
    let matching: Vec<&Profile> =
        PROFILES.iter().filter(|one| one.short_name() == wanted).collect();
    match matching.as_slice() {
        [] => Found::Nothing,
        [one] => Found::One(**one),
        several => Found::Several(several.iter().map(|one| one.name).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_stand_by_name() {
        assert!(PROFILES.len() > 50 && PROFILES.is_sorted_by_key(|one| one.name));
    }

    #[test]
    fn each_profile_says_what_it_mimics() {
        for profile in PROFILES {
            assert!(profile.comment().len() > 40, "{} needs a comment", profile.name);
        }
    }

    #[test]
    fn short_names_do() {
        assert!(matches!(find("vector-db/brownout"), Found::One(_)));
        assert!(matches!(find("brownout"), Found::One(_)));
        assert_eq!(find("nonsense"), Found::Nothing);
    }
}
