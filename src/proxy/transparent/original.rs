//! Redirected connections as the kernel hands them over: the sockets that take them, and where each
//! connection was going. Linux alone has this.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

use crate::proxy::Redirection;

const BACKLOG: i32 = 8192;

/// Listens at an address, and at the same port of its counterpart in the other version of IP, as
/// far as this machine has one: the kernel redirects within a version.
pub(in crate::proxy) fn listen(
    address: SocketAddr,
    mode: Redirection,
) -> io::Result<Vec<(TcpListener, SocketAddr)>> {
    let first = bind(address, mode)?;
    let address = first.local_addr()?;
    let mut sockets = vec![(first, address)];
    if let Some(other) = counterpart(address.ip()) {
        let other = SocketAddr::new(other, address.port());
        match bind(other, mode).and_then(|socket| Ok((socket.local_addr()?, socket))) {
            Ok((address, socket)) => sockets.push((socket, address)),
            Err(error) => tracing::debug!(%other, %error, "no gateway in the other version of IP"),
        }
    }
    Ok(sockets)
}

fn counterpart(ip: IpAddr) -> Option<IpAddr> {
    match ip {
        IpAddr::V4(Ipv4Addr::LOCALHOST) => Some(Ipv6Addr::LOCALHOST.into()),
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Some(Ipv6Addr::UNSPECIFIED.into()),
        IpAddr::V6(Ipv6Addr::LOCALHOST) => Some(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Some(Ipv4Addr::UNSPECIFIED.into()),
        _ => None,
    }
}

fn bind(address: SocketAddr, mode: Redirection) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if mode == Redirection::Tproxy {
        transparent(&socket, address)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

#[cfg(target_os = "linux")]
fn transparent(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    let set = match address {
        SocketAddr::V4(_) => socket.set_ip_transparent_v4(true),
        SocketAddr::V6(_) => socket.set_ip_transparent_v6(true),
    };
    set.map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => io::Error::new(
            error.kind(),
            "`mode: tproxy` needs CAP_NET_ADMIN: run as root, give the binary the capability, or \
             use `mode: redirect`",
        ),
        _ => error,
    })
}

#[cfg(not(target_os = "linux"))]
fn transparent(_: &Socket, _: SocketAddr) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "connections are redirected on Linux alone"))
}

/// Where a connection was going; None when it was made to us directly.
pub(super) fn destination(stream: &TcpStream, mode: Redirection) -> io::Result<Option<SocketAddr>> {
    let local = canonical(stream.local_addr()?);
    match mode {
        Redirection::Tproxy => Ok(Some(local)),
        Redirection::Redirect => {
            let original = redirected(stream, local)?.map(canonical);
            Ok(original.filter(|original| *original != local))
        }
    }
}

#[cfg(target_os = "linux")]
fn redirected(stream: &TcpStream, local: SocketAddr) -> io::Result<Option<SocketAddr>> {
    let socket = SockRef::from(stream);
    let original = match local {
        SocketAddr::V4(_) => socket.original_dst_v4(),
        SocketAddr::V6(_) => socket.original_dst_v6(),
    };
    match original {
        Ok(original) => Ok(original.as_socket()),
        // The kernel follows no connection here, so it redirects none.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error)
            if error.raw_os_error() == Some(rustix::io::Errno::NOPROTOOPT.raw_os_error()) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

#[cfg(not(target_os = "linux"))]
fn redirected(stream: &TcpStream, _: SocketAddr) -> io::Result<Option<SocketAddr>> {
    let _ = SockRef::from(stream);
    Ok(None)
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_direct_connection_was_going_nowhere_else() {
        let sockets = listen(([127, 0, 0, 1], 0).into(), Redirection::Redirect).unwrap();
        for (socket, address) in sockets {
            let _client = TcpStream::connect(address).await.unwrap();
            let (stream, _) = socket.accept().await.unwrap();
            assert_eq!(destination(&stream, Redirection::Redirect).unwrap(), None, "{address}");
        }
    }
}
