//! What the environment asks of a fuzz target.

use std::collections::BTreeSet;

use latefork_vmm::engine::select::EngineChoice;

use super::tally::News;
use super::{FuzzError, Place};

/// Whose counters are libFuzzer's features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestMap {
    /// The guest's.
    Features,
    /// Nobody's: what chance alone finds, to compare with.
    Hidden,
}

/// Which findings end the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Those that are not known.
    New,
    /// Those whose signature contains this text.
    At(String),
    /// None: each is kept and said once.
    Never,
}

impl Stop {
    /// Whether a finding ends the process.
    pub(super) fn stops(&self, signature: &str, news: News) -> bool {
        match self {
            Self::New => news != News::Known,
            Self::At(text) => signature.contains(text),
            Self::Never => false,
        }
    }
}

/// Settings of a fuzz target, by environment variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `LATEFORK_FLAVOUR`: `hardened` (default) or `faithful`;
    /// `LATEFORK_KERNEL`: the name of another kernel of that flavour, as
    /// `cargo xtask kernel --patches` names it.
    pub place: Place,
    /// `LATEFORK_STOP`: `new` (default), `never`, or a part of a signature.
    pub stop: Stop,
    /// `LATEFORK_KNOWN`: `on` (default) reads the flavour's list of known
    /// findings, `off` does not.
    pub known: bool,
    /// `LATEFORK_SEEDS`: `on` (default) copies committed seeds that are missing
    /// into the corpus, `off` does not.
    pub seeds: bool,
    /// `LATEFORK_LIVE`: `on` says now and then how many of the guest's edges
    /// were reached; `off` (default) saves the time.
    pub live: bool,
    /// `LATEFORK_MAP`: `on` (default) or `off`, for trials without guidance.
    pub map: GuestMap,
    /// `LATEFORK_ENGINE`: `auto` (default; KVM where it passes the probe), `soft`
    /// or `kvm`.
    pub engine: EngineChoice,
}

impl Settings {
    /// Everything at its default, in this place.
    pub fn new(place: Place) -> Self {
        Self {
            place,
            stop: Stop::New,
            known: true,
            live: false,
            seeds: true,
            map: GuestMap::Features,
            engine: EngineChoice::Auto,
        }
    }

    /// The settings in the environment.
    ///
    /// # Errors
    ///
    /// A variable holds what it cannot.
    pub fn from_environment() -> Result<Self, FuzzError> {
        Self::read(&|name| {
            let value = std::env::var_os(name)?;
            Some(value.to_string_lossy().into_owned())
        })
    }

    fn read(variable: &dyn Fn(&'static str) -> Option<String>) -> Result<Self, FuzzError> {
        let flavour = variable("LATEFORK_FLAVOUR");
        let kernel = variable("LATEFORK_KERNEL");
        let place = Place::here(flavour.as_deref(), kernel.as_deref())?;
        let switch = |name| match variable(name).as_deref() {
            None | Some("on") => Ok(true),
            Some("off") => Ok(false),
            Some(other) => Err(FuzzError::Setting {
                name,
                value: other.to_owned(),
                allowed: "neither `on` nor `off`",
            }),
        };
        let engine = variable("LATEFORK_ENGINE").unwrap_or_else(|| "auto".to_owned());
        let engine = engine.parse().map_err(|_| FuzzError::Setting {
            name: "LATEFORK_ENGINE",
            value: engine,
            allowed: "neither `auto`, `soft` nor `kvm`",
        })?;
        Ok(Self {
            place,
            engine,
            stop: match variable("LATEFORK_STOP").as_deref() {
                None | Some("" | "new") => Stop::New,
                Some("never") => Stop::Never,
                Some(text) => Stop::At(text.to_owned()),
            },
            live: variable("LATEFORK_LIVE").is_some() && switch("LATEFORK_LIVE")?,
            known: switch("LATEFORK_KNOWN")?,
            seeds: switch("LATEFORK_SEEDS")?,
            map: match switch("LATEFORK_MAP")? {
                true => GuestMap::Features,
                false => GuestMap::Hidden,
            },
        })
    }

    /// The signatures in the flavour's list of known findings: one a line;
    /// empty lines and those that start with `#` do not count. Without a file,
    /// and with `LATEFORK_KNOWN=off`, nothing is known.
    pub(super) fn known(&self) -> Result<BTreeSet<String>, FuzzError> {
        if !self.known {
            return Ok(BTreeSet::new());
        }
        let path = self.place.known();
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(signatures(&text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(BTreeSet::new()),
            Err(source) => Err(FuzzError::File {
                what: "cannot read",
                path,
                source,
            }),
        }
    }
}

fn signatures(text: &str) -> BTreeSet<String> {
    let lines = text.lines().map(str::trim);
    let signatures = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    signatures.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use latefork_vmm::engine::EngineKind;

    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Settings, FuzzError> {
        Settings::read(&|name| {
            let found = variables.iter().find(|(known, _)| *known == name)?;
            Some(found.1.to_owned())
        })
    }

    #[test]
    fn without_variables_hardened_stops_at_what_is_new() {
        let settings = read(&[]).unwrap();
        assert_eq!(settings.place.flavour(), "hardened");
        assert_eq!(settings, Settings::new(settings.place.clone()));
    }

    #[test]
    fn every_variable_is_read() {
        let settings = read(&[
            ("LATEFORK_FLAVOUR", "faithful"),
            ("LATEFORK_STOP", "P5 "),
            ("LATEFORK_KNOWN", "off"),
            ("LATEFORK_MAP", "off"),
            ("LATEFORK_ENGINE", "soft"),
        ]);
        let settings = settings.unwrap();
        assert_eq!(settings.place.flavour(), "faithful");
        assert_eq!(settings.stop, Stop::At("P5 ".to_owned()));
        assert_eq!((settings.known, settings.map), (false, GuestMap::Hidden));
        assert_eq!(settings.engine, EngineChoice::Only(EngineKind::Soft));
        let error = |name, value| read(&[(name, value)]).unwrap_err().to_string();
        let found = error("LATEFORK_MAP", "no");
        assert_eq!(found, "LATEFORK_MAP=no: neither `on` nor `off`");
        let found = error("LATEFORK_ENGINE", "qemu");
        let allowed = "neither `auto`, `soft` nor `kvm`";
        assert_eq!(found, format!("LATEFORK_ENGINE=qemu: {allowed}"));
    }

    #[test]
    fn findings_stop_as_the_settings_say() {
        let at = Stop::At("planted".to_owned());
        assert!(Stop::New.stops("P1", News::First) && Stop::New.stops("P1", News::Again));
        assert!(!Stop::New.stops("P1", News::Known));
        assert!(at.stops("P12 BUG: planted", News::Known) && !at.stops("P1", News::First));
        assert!(!Stop::Never.stops("P1", News::First));
    }

    #[test]
    fn only_whole_lines_that_are_no_comments_are_signatures() {
        let found = signatures("# why\n\n P5 second-continuation async \nP10 stuck\n");
        let found: Vec<&str> = found.iter().map(String::as_str).collect();
        assert_eq!(found, ["P10 stuck", "P5 second-continuation async"]);
    }
}
