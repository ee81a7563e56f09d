//! What the command line got wrong, in one line.

use std::process::ExitCode;

use clap::error::ErrorKind;

/// The exit code that command line tools give for wrong arguments.
const USAGE: u8 = 2;

/// Prints help or version as they are; of an error what is wrong and which
/// values there are, in one line on stderr.
pub(crate) fn refuse(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => error.exit(),
        _ => {
            eprintln!("{}", one_line(&error.to_string()));
            ExitCode::from(USAGE)
        }
    }
}

/// clap's message without its usage and its hint at `--help`.
fn one_line(message: &str) -> String {
    let said = message
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"));
    let mut line = String::from("xtask:");
    for part in said {
        line.push(' ');
        line.push_str(part.strip_prefix("error: ").unwrap_or(part));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_becomes_one_line_with_the_values_there_are() {
        let message = "error: invalid value 'x' for '--flavour <FLAVOUR>'\n  \
                       [possible values: faithful, hardened]\n\n\
                       Usage: cargo xtask kernel\n\nFor more information, try '--help'.\n";
        assert_eq!(
            one_line(message),
            "xtask: invalid value 'x' for '--flavour <FLAVOUR>' \
             [possible values: faithful, hardened]"
        );
    }
}
