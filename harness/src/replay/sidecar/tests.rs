use super::*;

fn sidecar() -> Sidecar {
    let setting = Setting {
        flavour: "faithful".to_owned(),
        config: "fuzz".to_owned(),
        kernel: None,
        memory_mib: 32,
        image: "0123456789abcdef".repeat(2),
        engine: "soft".to_owned(),
    };
    let outcome = Outcome {
        verdict: "finding".to_owned(),
        signatures: vec!["P10 stuck".to_owned()],
        instructions: 1_234_567,
        memory_hash: "00ff00ff00ff00ff".to_owned(),
    };
    Sidecar::new(setting, outcome)
}

#[test]
fn what_was_written_is_read_and_nothing_else_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let program = latefork_wire::text::parse("t0 nop\n").unwrap();
    let path = sidecar().keep(folder.path(), "x", &program).unwrap();
    assert_eq!(Sidecar::read(&path).unwrap(), Some(sidecar()));
    assert_eq!(Program::decode(&std::fs::read(&path).unwrap()), program);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    assert_eq!(Sidecar::read(&folder.path().join("y")).unwrap(), None);
}

#[test]
fn another_version_is_refused_by_its_number_whatever_else_it_holds() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    std::fs::write(Sidecar::path_of(&path), r#"{"version": 7, "future": []}"#).unwrap();
    let error = Sidecar::read(&path).unwrap_err();
    let ArtifactError::Version {
        what, found, known, ..
    } = error
    else {
        panic!("{error}");
    };
    assert_eq!((what, found, known), ("version", 7, VERSION));
}

#[test]
fn another_protocol_and_damage_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    let mut other = sidecar();
    other.protocol += 1;
    other.write(&path).unwrap();
    let error = Sidecar::read(&path).unwrap_err();
    assert!(matches!(
        error,
        ArtifactError::Version {
            what: "protocol",
            ..
        }
    ));
    std::fs::write(Sidecar::path_of(&path), "{").unwrap();
    let error = Sidecar::read(&path).unwrap_err();
    assert!(matches!(error, ArtifactError::Sidecar { .. }));
}

#[test]
fn a_kernel_in_its_usual_place_is_named_by_flavour_and_configuration() {
    let guest = Guest::new(b"kernel".to_vec(), b"initramfs".to_vec());
    let usual = Path::new("/src/target/guest/hardened-fuzz/vmlinux");
    let setting = Setting::new(&guest, usual, "soft");
    assert_eq!(
        (setting.flavour.as_str(), setting.config.as_str()),
        ("hardened", "fuzz")
    );
    let images = Path::new("/other/target/guest");
    assert_eq!(setting.kernel(images), images.join("hardened-fuzz/vmlinux"));
    let own = Path::new("/home/vmlinux");
    assert_eq!(Setting::new(&guest, own, "soft").kernel(images), own);
}
