//! What the calls of macOS and the BSDs look like.

pub(super) use super::unix::{print, Failure};
use std::os::raw::c_int;

/// Errors with a number of their own.
pub(super) const SYSTEM_ERRORS: &[(c_int, &str, &str)] =
    &[(78, "ENOSYS", "Function not implemented")];
