//! Going away: drain, and who may follow on the port.

use crate::client::Client;
use crate::server::Server;
use crate::{On, Wire};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use uproar_proto::v1::server_frame::Body;

pub(crate) fn a_drain_tells_clients_to_reconnect(on: On) {
    let config = "[engine]\ndrain_spread_ms = 4321\ndrain_ms_max = 60000\n";
    let mut server = Server::start(on.io, config);
    let mut clients: Vec<Client> =
        (0..6).map(|_| Client::viewer(&server, on.wire, "stage").0).collect();
    server.signal("TERM");
    for client in &mut clients {
        let reconnect = client.take("reconnect", |body| match body {
            Body::Reconnect(reconnect) => Some(reconnect.clone()),
            Body::Error(error) => panic!("reconnect comes before any error: {error:?}"),
            _ => None,
        });
        assert_eq!((reconnect.spread_ms, reconnect.to.as_str()), (4321, ""));
    }
    assert_eq!(server.get("/readyz").status, 503);
    assert_eq!(server.get("/healthz").status, 200);
    assert!(server.is_running(), "it waits for its clients");
    drop(clients);
    assert_eq!(server.exit_code(), 0);
}

pub(crate) fn who_ignores_a_drain_is_told_why_it_ends(on: On) {
    let mut server = Server::start(on.io, "[engine]\ndrain_ms_max = 500\n");
    let mut stays = Client::guest(&server, on.wire);
    server.signal("HUP");
    stays.take("reconnect", |body| matches!(body, Body::Reconnect(_)).then_some(()));
    stays.ends_with("DRAINING", 1012);
    assert_eq!(server.exit_code(), 0);
}

pub(crate) fn the_last_client_that_goes_ends_a_drain(on: On) {
    let mut server = Server::start(on.io, "[engine]\ndrain_ms_max = 60000\n");
    let (mut publisher, _) = Client::viewer(&server, Wire::Tcp, "stage");
    let (mut viewer, _) = Client::viewer(&server, Wire::Json, "stage");
    server.signal("INT");
    viewer.take("reconnect", |body| matches!(body, Body::Reconnect(_)).then_some(()));
    // A drain is no stop: who is still here goes on talking until it leaves.
    publisher.is_accepted("stage", "1", "see you elsewhere");
    viewer.messages("stage", 1);
    drop(viewer);
    publisher.ping();
    assert!(server.is_running());
    drop(publisher);
    assert_eq!(server.exit_code(), 0);
}

pub(crate) fn a_drain_refuses_who_comes(on: On) {
    let server = Server::start(on.io, "[engine]\ndrain_ms_max = 60000\n");
    let mut stays = Client::guest(&server, Wire::Tcp);
    server.signal("TERM");
    stays.take("reconnect", |body| matches!(body, Body::Reconnect(_)).then_some(()));
    server.eventually("nobody gets in any more", |server| {
        // Refused by the kernel, or with a code by a shard that had it in its queue already.
        let told = match TcpStream::connect(server.clients) {
            Err(error) => Err(error),
            Ok(mut socket) => first_frame(&mut socket),
        };
        match told {
            Err(error) => error.kind() == ErrorKind::ConnectionRefused,
            Ok(frame) if frame[0] == 0x0a => false, // welcome: this shard does not know yet
            Ok(frame) => {
                assert!(frame.windows(8).any(|name| name == b"DRAINING"), "{frame:?}");
                true
            }
        }
    });
    stays.ping();
}

/// What a hello over binary TCP is answered with.
fn first_frame(socket: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    socket.set_read_timeout(Some(crate::DEADLINE))?;
    socket.write_all(b"UPR1\x02\x0a\x00")?; // connect {}
    let mut length = [0];
    socket.read_exact(&mut length)?;
    let mut frame = vec![0; usize::from(length[0])];
    socket.read_exact(&mut frame)?;
    Ok(frame)
}

pub(crate) fn a_second_process_on_the_port_is_an_error(on: On) {
    let server = Server::start_alone(on.io, "");
    let Err(log) = server.start_again() else { panic!("two processes share the port in silence") };
    assert!(log.contains(&server.clients.to_string()), "it names the address: {log}");
    // The first one lost nobody to it.
    for _ in 0..8 {
        Client::guest(&server, Wire::Tcp).ping();
    }
}
