//! What is in this process's memory stays there: calls, rendered requests, opened secrets and keys are written into no core dump.

use nix::sys::resource::{Resource, setrlimit};

/// Forbids core dumps, and on Linux also that other processes of the same user look into this one (a debugger, `/proc/PID/mem`). It is
/// called before anything else. A system that refuses is no reason not to run.
pub fn keep_private() {
    // A core dump that is written to a file heeds the limit; one that is piped into a program (systemd-coredump) does not.
    setrlimit(Resource::RLIMIT_CORE, 0, 0).ok();
    #[cfg(target_os = "linux")]
    nix::sys::prctl::set_dumpable(false).ok();
}
