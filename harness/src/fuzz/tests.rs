use std::path::Path;

use super::*;

#[test]
fn missing_images_are_named_with_the_command_that_makes_them() {
    let root = tempfile::tempdir().unwrap();
    let place = Place::new(root.path(), None).unwrap();
    let error = Session::open("everything", Settings::new(place));
    let error = error.unwrap_err().to_string();
    assert!(error.contains("hardened-fuzz/vmlinux"), "{error}");
    assert!(
        error.contains("`cargo xtask kernel --flavour hardened`"),
        "{error}"
    );
    assert!(error.contains("`cargo xtask setup`"), "{error}");
    assert!(!error.contains('\n'), "{error}");
}

#[test]
fn only_seeds_that_are_missing_are_copied() {
    let root = tempfile::tempdir().unwrap();
    let place = Place::new(root.path(), None).unwrap();
    assert_eq!(copy_seeds(&place, "nested").unwrap(), 0);
    std::fs::create_dir_all(place.seeds("nested")).unwrap();
    for (name, bytes) in [("one", b"1"), ("two", b"2")] {
        std::fs::write(place.seeds("nested").join(name), bytes).unwrap();
    }
    assert_eq!(copy_seeds(&place, "nested").unwrap(), 2);
    let two = place.corpus("nested").join("two");
    std::fs::write(&two, b"changed").unwrap();
    std::fs::remove_file(place.corpus("nested").join("one")).unwrap();
    assert_eq!(copy_seeds(&place, "nested").unwrap(), 1);
    assert_eq!(std::fs::read(two).unwrap(), b"changed");
    assert_eq!(copy_seeds(&place, "everything").unwrap(), 2);
}

#[test]
fn a_report_has_the_token_that_libfuzzer_looks_for() {
    let place = Place::new(Path::new("/src"), Some("faithful")).unwrap();
    let report = Report {
        title: "P10: the program did not end".to_owned(),
        signature: "P10 stuck".to_owned(),
        command: place.command(Path::new("/src/x")),
        after: std::time::Duration::from_millis(1500),
        programs: 7,
    };
    let text = report.to_string();
    assert!(text.lines().any(|line| line == "DEDUP_TOKEN: P10 stuck"));
    assert!(text.lines().last().unwrap().starts_with("latefork repro "));
}
