//! The socket that the registry listens on.

use std::io::Result;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV6};

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen as set_listening, socket_with, sockopt};
use tokio::net::TcpListener;

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 1024;

/// Listens on `ADDRESS:PORT`; on all addresses for `:PORT`: of both families, or of IPv4 alone where the kernel has no IPv6.
pub async fn listen(address: &str) -> Result<TcpListener> {
    let Some(port) = address.strip_prefix(':').and_then(|port| port.parse::<u16>().ok()) else {
        return TcpListener::bind(address).await;
    };
    match dual_stack(port) {
        Err(error) if error.kind() != std::io::ErrorKind::AddrInUse => TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await,
        result => result,
    }
}

/// Takes IPv4 on a socket of IPv6, whatever `net.ipv6.bindv6only` is (ipv6(7)).
fn dual_stack(port: u16) -> Result<TcpListener> {
    let socket = socket_with(AddressFamily::INET6, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    sockopt::set_ipv6_v6only(&socket, false)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0))?;
    set_listening(&socket, BACKLOG)?;
    TcpListener::from_std(std::net::TcpListener::from(socket))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, TcpStream};

    #[tokio::test]
    async fn all_addresses_are_those_of_both_families() {
        let listener = listen(":0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let connects = |address: IpAddr| TcpStream::connect((address, port)).is_ok();
        assert!(connects(Ipv4Addr::LOCALHOST.into()));
        let has_ipv6 = std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
        assert_eq!(connects(Ipv6Addr::LOCALHOST.into()), has_ipv6);
        assert_eq!(listen(&format!(":{port}")).await.err().map(|error| error.kind()), Some(std::io::ErrorKind::AddrInUse));
        assert!(listen("127.0.0.1:0").await.unwrap().local_addr().unwrap().ip().is_loopback());
    }
}
