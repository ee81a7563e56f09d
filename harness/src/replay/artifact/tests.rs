use super::*;
use crate::replay::{Outcome, Setting};

fn sidecar() -> Sidecar {
    let setting = Setting {
        flavour: "hardened".to_owned(),
        config: "fuzz".to_owned(),
        kernel: None,
        memory_mib: 32,
        image: String::new(),
        engine: "soft".to_owned(),
    };
    let outcome = Outcome {
        verdict: "clean".to_owned(),
        signatures: Vec::new(),
        instructions: 1,
        memory_hash: String::new(),
    };
    Sidecar::new(setting, outcome)
}

#[test]
fn what_is_recorded_follows_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let seeds = folder.path().join("corpora/nested");
    std::fs::create_dir_all(&seeds).unwrap();
    let write = |path: PathBuf, text: &str| {
        std::fs::write(&path, text).unwrap();
        Artifact::read(&path).unwrap().record
    };
    assert_eq!(write(seeds.join("one"), "abc"), Record::Seed);
    assert_eq!(write(folder.path().join("crash"), "abc"), Record::None);
    assert_eq!(write(folder.path().join("a.txt"), "t0 nop\n"), Record::None);
    let crash = folder.path().join("crash");
    sidecar().write(&crash).unwrap();
    assert!(matches!(
        Artifact::read(&crash).unwrap().record,
        Record::Run(_)
    ));
}

#[test]
fn folders_give_their_programs_by_name_without_sidecars() {
    let folder = tempfile::tempdir().unwrap();
    let below = folder.path().join("below");
    std::fs::create_dir(&below).unwrap();
    for name in ["b", "a.txt", "b.json", ".hidden", "below/c"] {
        std::fs::write(folder.path().join(name), "").unwrap();
    }
    let names = programs(folder.path()).unwrap();
    let expected = ["a.txt", "b", "below/c"].map(|name| folder.path().join(name));
    assert_eq!(names, expected);
}

#[test]
fn files_that_are_no_programs_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("x.txt");
    std::fs::write(&text, [0xff, 0xfe]).unwrap();
    let error = Artifact::read(&text).unwrap_err();
    assert!(matches!(error, ArtifactError::Text { .. }), "{error}");
    std::fs::write(&text, "t0 nop\nt9 nop\n").unwrap();
    let error = Artifact::read(&text).unwrap_err();
    assert!(error.to_string().contains("line 2"), "{error}");
    let large = folder.path().join("large");
    std::fs::File::create(&large)
        .unwrap()
        .set_len(LARGEST + 1)
        .unwrap();
    let error = Artifact::read(&large).unwrap_err();
    assert!(matches!(error, ArtifactError::Oversized { .. }), "{error}");
    let error = Artifact::read(&folder.path().join("none")).unwrap_err();
    assert!(matches!(error, ArtifactError::Read { .. }), "{error}");
}

#[test]
fn corpora_stands_for_its_folders_of_programs_alone() {
    let folder = tempfile::tempdir().unwrap();
    let corpora = folder.path().join("corpora");
    for name in [
        "nested/a",
        "regressions/b.txt",
        "known/faithful.txt",
        "loader/elf",
    ] {
        let path = corpora.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "").unwrap();
    }
    let expected = ["nested/a", "regressions/b.txt"].map(|name| corpora.join(name));
    assert_eq!(programs(&corpora).unwrap(), expected);
    let loader = corpora.join("loader");
    assert_eq!(programs(&loader).unwrap(), [loader.join("elf")]);
}
