//! Releases: each service has a train of versions, and each version is a build of its code.
//!
//! All builds live in one program and the version picks one, as an image tag picks a container.
//! A faulty build differs in its code only; nothing it reports says that it is faulty but what it does.

use serde::{Deserialize, Serialize};

/// Which code a version was built from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Build {
    /// The code as it should be.
    Sound,
    /// The code with the bug that its service's file describes.
    Faulty,
}

/// One version of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    pub version: String,
    pub build: Build,
}

/// The versions of a service in the order in which they were made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Train(Vec<Release>);

impl Train {
    /// Versions from `major.minor.patch` on. Sound and faulty ones alternate irregularly (`faulty_at`), and
    /// whether a version bumps minor or patch does not depend on its build, so that a version tells nothing.
    pub fn new((major, minor, patch): (u32, u32, u32), faulty_at: &[bool]) -> Self {
        let (mut minor, mut patch) = (minor, patch);
        let mut releases = vec![Release { version: format!("{major}.{minor}.{patch}"), build: Build::Sound }];
        for (i, &faulty) in faulty_at.iter().enumerate() {
            if i % 3 == 1 {
                (minor, patch) = (minor + 1, 0);
            } else {
                patch += 1;
            }
            let build = if faulty { Build::Faulty } else { Build::Sound };
            releases.push(Release { version: format!("{major}.{minor}.{patch}"), build });
        }
        Self(releases)
    }

    pub fn first(&self) -> &str {
        &self.0[0].version
    }

    pub fn build(&self, version: &str) -> Option<Build> {
        self.0.iter().find(|r| r.version == version).map(|r| r.build)
    }

    /// The next version of the wanted build after `current`, from the start of the train when none is left.
    pub fn next(&self, current: &str, wanted: Build) -> Option<&str> {
        let at = self.0.iter().position(|r| r.version == current)?;
        let (before, after) = self.0.split_at(at + 1);
        after.iter().chain(before).find(|r| r.build == wanted && r.version != current).map(|r| r.version.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_distinct_and_rise() {
        let train = Train::new((2, 4, 1), &[false, true, false, true, true, false]);
        let versions: Vec<_> = train.0.iter().map(|r| r.version.as_str()).collect();
        assert_eq!(versions, ["2.4.1", "2.4.2", "2.5.0", "2.5.1", "2.5.2", "2.6.0", "2.6.1"]);
    }

    #[test]
    fn next_finds_the_wanted_build() {
        let train = Train::new((1, 0, 0), &[false, true, false, true]);
        for (current, wanted, next) in [
            ("1.0.0", Build::Sound, Some("1.0.1")),
            ("1.0.0", Build::Faulty, Some("1.1.0")),
            ("1.1.0", Build::Faulty, Some("1.1.2")),
            ("1.1.2", Build::Faulty, Some("1.1.0")),
            ("1.1.2", Build::Sound, Some("1.0.0")),
            ("9.9.9", Build::Sound, None),
        ] {
            assert_eq!(train.next(current, wanted), next, "after {current}");
        }
    }
}
