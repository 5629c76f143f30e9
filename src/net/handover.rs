//! Listening sockets on their way to another process, over a Unix socket (SCM_RIGHTS). The queue of
//! connections belongs to the socket, so nobody is refused while two processes have it.

use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// Sockets of one message; the kernel takes 253.
const MOST: usize = 250;
/// The longest text beside them.
const LONGEST: usize = 1 << 20;

/// Sends a line of text and sockets with it.
pub fn send(stream: &UnixStream, line: &str, sockets: &[OwnedFd]) -> io::Result<()> {
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let borrowed: Vec<BorrowedFd<'_>> = sockets.iter().map(OwnedFd::as_fd).collect();
    let fits = borrowed.len() <= MOST
        && (borrowed.is_empty() || ancillary.push(SendAncillaryMessage::ScmRights(&borrowed)));
    if !fits {
        let text = format!("{} listeners are more than one message carries", sockets.len());
        return Err(io::Error::other(text));
    }
    let text = format!("{line}\n");
    let slices = [IoSlice::new(text.as_bytes())];
    let sent = sendmsg(stream, &slices, &mut ancillary, SendFlags::empty())?;
    (&*stream).write_all(&text.as_bytes()[sent..])
}

/// Receives a line of text and the sockets that came with it.
pub fn receive(stream: &UnixStream) -> io::Result<(String, Vec<OwnedFd>)> {
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut text = vec![0; 64 << 10];
    let mut slices = [IoSliceMut::new(&mut text)];
    let received = recvmsg(stream, &mut slices, &mut ancillary, RecvFlags::empty())?.bytes;
    text.truncate(received);
    let mut sockets = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            sockets.extend(fds);
        }
    }
    for socket in &sockets {
        // An app that we start must not hold them.
        rustix::io::fcntl_setfd(socket, rustix::io::FdFlags::CLOEXEC)?;
    }
    let mut byte = [0];
    while text.last() != Some(&b'\n') {
        if text.len() > LONGEST || (&*stream).read(&mut byte)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        text.push(byte[0]);
    }
    text.pop();
    let text = String::from_utf8(text).map_err(|_| io::Error::other("no UTF-8 text"))?;
    Ok((text, sockets))
}

/// A listening socket that another process had, by the name it had there.
#[derive(Debug)]
pub struct Inherited {
    pub name: String,
    pub socket: TcpListener,
}

/// The sockets that were taken over and that nothing listens on yet.
#[derive(Clone, Debug, Default)]
pub struct Inheritance(Arc<Mutex<Vec<Inherited>>>);

impl Inheritance {
    pub fn new(sockets: Vec<Inherited>) -> Self {
        Self(Arc::new(Mutex::new(sockets)))
    }

    /// The socket for an address; where any port will do, the one that had this name.
    pub fn take(&self, name: &str, wanted: SocketAddr) -> Option<TcpListener> {
        let mut all = self.0.lock();
        let fits = |one: &Inherited| match one.socket.local_addr() {
            Ok(address) if wanted.port() == 0 => address.ip() == wanted.ip() && one.name == name,
            Ok(address) => address == wanted,
            Err(_) => false,
        };
        let at = all.iter().position(fits)?;
        Some(all.swap_remove(at).socket)
    }

    /// All sockets of a name that listen on a port; port 0 is any.
    pub fn take_all(&self, name: &str, port: u16) -> Vec<TcpListener> {
        let mut all = self.0.lock();
        let here = |one: &mut Inherited| {
            let address = one.socket.local_addr();
            one.name == name && address.is_ok_and(|address| port == 0 || address.port() == port)
        };
        all.extract_if(.., here).map(|one| one.socket).collect()
    }

    /// Closes what nobody wanted.
    pub fn close(&self) {
        self.0.lock().clear();
    }

    /// Where those listen that nobody has wanted so far.
    pub fn left(&self) -> Vec<SocketAddr> {
        self.0.lock().iter().filter_map(|one| one.socket.local_addr().ok()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_go_over_and_connections_in_their_queue_with_them() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut client = std::net::TcpStream::connect(address).unwrap();
        let more = TcpListener::bind("127.0.0.1:0").unwrap();
        let long = "x".repeat(100_000);
        let sender = std::thread::spawn(move || {
            send(&ours, &long, &[OwnedFd::from(listener), OwnedFd::from(more)]).unwrap();
        });
        let (text, mut sockets) = receive(&theirs).unwrap();
        sender.join().unwrap();
        assert_eq!((text.len(), sockets.len()), (100_000, 2));
        let first = TcpListener::from(sockets.remove(0));
        assert_eq!(first.local_addr().unwrap(), address);
        let inherited = Inherited { name: "llm".into(), socket: first };
        let inheritance = Inheritance::new(vec![inherited]);
        let any = SocketAddr::new(address.ip(), 0);
        assert!(inheritance.take("vectors", any).is_none());
        let taken = inheritance.take("llm", any).unwrap();
        assert!(inheritance.take("llm", address).is_none(), "once");
        let (mut accepted, _) = taken.accept().unwrap();
        accepted.write_all(b"hi").unwrap();
        let mut answer = [0; 2];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"hi");
    }

    #[test]
    fn a_broken_message_is_an_error() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (&ours).write_all(b"no end").unwrap();
        drop(ours);
        assert!(receive(&theirs).is_err());
        let (ours, theirs) = UnixStream::pair().unwrap();
        (&ours).write_all(b"\xff\n").unwrap();
        assert!(receive(&theirs).is_err());
    }
}
