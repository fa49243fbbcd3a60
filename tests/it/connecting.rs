//! Commands that cannot reach the database say at once where they looked and why it failed.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::support::process::{postcall_at, stderr};

#[test]
fn a_closed_port_is_reported_at_once_with_its_cause() {
    // A port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let begun = Instant::now();
    let output = postcall_at(&format!("postgres://postgres@127.0.0.1:{port}/postcall"), &["history"]);
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    let expected = format!("postcall: cannot connect to the database at 127.0.0.1:{port}: Connection refused");
    assert!(said.starts_with(&expected), "{said}");
    // A pool would try again for ten seconds.
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
}

#[test]
fn a_wrong_host_or_socket_is_named() {
    for (url, named) in [
        ("postgres://postgres@no-such-host.invalid:5433/postcall", "no-such-host.invalid:5433: "),
        ("postgres:///postcall?user=postgres&host=/nowhere", "/nowhere"),
    ] {
        let output = postcall_at(url, &["status"]);
        assert_eq!(output.status.code(), Some(1));
        let said = stderr(&output);
        assert!(said.starts_with("postcall: cannot connect to the database at ") && said.contains(named), "{said}");
    }
}
