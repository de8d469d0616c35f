//! Values of the environment that no flag takes: clap would name the flag, which nobody gave.

use std::ffi::OsString;

use clap::Command;

use crate::settings_file::check;

/// A variable whose value cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{variable} (environment): {reason}")]
pub struct VariableError {
    variable: String,
    reason: String,
}

/// Looks at the variables of the subcommand that the arguments name, but for those whose flag they give.
///
/// # Errors
/// Names the first variable whose value cannot be used.
pub fn check_variables(command: &Command, arguments: &[OsString]) -> Result<(), VariableError> {
    let texts: Vec<&str> = arguments.iter().filter_map(|argument| argument.to_str()).collect();
    let Some(subcommand) = texts.iter().find_map(|name| command.find_subcommand(name)) else { return Ok(()) };
    for arg in subcommand.get_arguments() {
        let (Some(variable), Some(flag)) = (arg.get_env(), arg.get_long()) else { continue };
        let given = texts
            .iter()
            .any(|text| text.strip_prefix("--").is_some_and(|text| text.split('=').next() == Some(flag)));
        let Some(value) = std::env::var_os(variable).filter(|_| !given) else { continue };
        check(subcommand, arg, &value.to_string_lossy())
            .map_err(|reason| VariableError { variable: variable.to_string_lossy().into_owned(), reason })?;
    }
    Ok(())
}
