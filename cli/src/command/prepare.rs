//! `latefork prepare`: the moments that programs start from, made ahead.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use latefork_harness::replay::regression::FLAVOURS;

use crate::lab::{Lab, LabOptions};

/// Where the guests are.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    lab: LabOptions,
}

/// Boots each flavour until its agent is ready, and keeps that in a file.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let mut lab = Lab::new(&options.lab);
    for flavour in FLAVOURS {
        let wanted = lab.flavour(flavour);
        let image = &lab.open(&wanted)?.setting.image;
        println!("{flavour}: ready, image {image}");
    }
    Ok(ExitCode::SUCCESS)
}
