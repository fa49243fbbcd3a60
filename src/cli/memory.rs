//! What is in this process's memory stays there: calls, rendered requests, opened secrets and keys are written into no core
//! dump, and are in no message of a panic.

use nix::sys::resource::{Resource, setrlimit};

/// Forbids core dumps, and on Linux also that other processes of the same user look into this one (a debugger, `/proc/PID/mem`). It is
/// called before anything else. A system that refuses is no reason not to run.
pub fn keep_private() {
    // A core dump that is written to a file heeds the limit; one that is piped into a program (systemd-coredump) does not.
    setrlimit(Resource::RLIMIT_CORE, 0, 0).ok();
    #[cfg(target_os = "linux")]
    nix::sys::prctl::set_dumpable(false).ok();
}

/// Logs where a panic happened, without its message: the message may quote text of a call.
pub(super) fn log_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    tracing::error!(place, "a defect of this program: a panic");
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_panic_is_logged_by_its_place_and_never_with_what_it_says() {
        let written = Written::default();
        let writer = written.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(log_panic));
        let ended = tracing::subscriber::with_default(subscriber, || {
            std::panic::catch_unwind(|| panic!("it quotes +15157845671"))
        });
        std::panic::set_hook(usual);
        let said = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        assert!(ended.is_err() && said.contains("memory.rs") && !said.contains("15157845671"), "{said}");
    }
}
