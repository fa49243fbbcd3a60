//! An environment of its own for one test: a process in a network namespace, with its own hosts file and resolver
//! configuration, in which some addresses are silent. It needs Linux and the right to make namespaces. Without these,
//! it says so.

use std::io::Write;
use std::process::{Command, Output};

use tempfile::NamedTempFile;

use super::not_tested::impossible;

/// An address of the namespace itself.
pub const LIVING: &str = "203.0.113.5";
/// Addresses that swallow whatever is sent to them.
pub const SILENT: [&str; 6] = ["10.9.0.2", "10.9.0.3", "10.9.0.4", "10.9.0.5", "10.9.0.6", "10.9.0.7"];

/// Set in the child: the test that runs there.
const CHILD: &str = "POSTCALL_TEST_NAMESPACE";

/// Exit status of [`SETUP`] when the namespace cannot be made as it should be.
const NOT_POSSIBLE: i32 = 77;

/// What is sent to a neighbour that is not there leaves by one end of the cable and is dropped at the other.
const SETUP: &str = r#"
{ mount --bind "$HOSTS" /etc/hosts &&
  mount --bind "$RESOLV_CONF" /etc/resolv.conf &&
  ip link set lo up &&
  ip link add out0 type veth peer name out1 &&
  ip addr add 10.9.0.1/24 dev out0 &&
  ip link set out0 up &&
  ip link set out1 up &&
  for last in 2 3 4 5 6 7; do ip neigh add 10.9.0.$last lladdr 02:00:00:00:00:0$last dev out0 || exit 77; done &&
  ip route add local 203.0.113.0/24 dev lo src 10.9.0.1
} || exit 77
exec "$@"
"#;

/// How the world looks to the child.
#[derive(Default)]
pub struct World<'a> {
    /// The hosts file.
    pub hosts: &'a str,
    /// Root certificates to trust, as PEM.
    pub roots: &'a str,
}

impl World<'_> {
    /// Runs the test `name` once more in a child that lives in this world; its name server, if it asks one, is
    /// 127.0.0.1. `true` in the child; `false` when the child has passed, or when there cannot be one.
    pub async fn enter(&self, name: &str) -> bool {
        if std::env::var_os(CHILD).is_some_and(|child| child == name) {
            return true;
        }
        let (hosts, resolv_conf, roots) = (file(self.hosts), file("nameserver 127.0.0.1\n"), file(self.roots));
        let mut child = Command::new("unshare");
        child.args(["--map-root-user", "--mount", "--net", "sh", "-c", SETUP, "setup"]);
        child.arg(std::env::current_exe().unwrap()).args(["--exact", name, "--nocapture"]);
        child.env(CHILD, name).env("HOSTS", hosts.path()).env("RESOLV_CONF", resolv_conf.path());
        if !self.roots.is_empty() {
            child.env("SSL_CERT_FILE", roots.path()).env_remove("SSL_CERT_DIR");
        }
        match tokio::task::spawn_blocking(move || child.output()).await.unwrap() {
            Ok(Output { status, .. }) if [1, NOT_POSSIBLE].map(Some).contains(&status.code()) => {
                impossible(&format!("{name}: this system lets no namespace be made"));
            }
            Ok(Output { status, stdout, stderr }) => {
                let (told, complained) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
                assert!(status.success() && told.contains("1 passed"), "{told}\n{complained}");
            }
            Err(error) => impossible(&format!("{name}: no unshare: {error}")),
        }
        false
    }
}

fn file(content: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(content.as_bytes()).unwrap();
    file
}
