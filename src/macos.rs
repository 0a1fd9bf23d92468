//! Not there yet.
compile_error!("this platform is not there yet");
