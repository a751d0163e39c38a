//! A connection to another node that can be cut off at once, whoever holds it.
//!
//! `ractor_cluster` keeps the two halves of a connection in tasks of its own, and a session that it
//! calls disconnected was seen to deliver what it had queued twelve seconds later. So the halves go
//! through a fence: once that is closed, no byte passes in either direction, and because the socket
//! lingers for zero seconds, what the system still held is thrown away with it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use ractor_cluster::{BoxRead, BoxWrite, ClusterBidiStream};
use socket2::{SockRef, TcpKeepalive};
use tickwright_core::cluster::Timings;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

use super::cut::Line;

/// A connection, encrypted or not.
#[derive(Debug)]
pub(super) enum Connection {
    Plain(Line),
    Tls(Box<TlsStream<Line>>),
}

impl Connection {
    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(line) => line.tcp(),
            Self::Tls(stream) => stream.get_ref().0.tcp(),
        }
    }

    /// From now on closing it throws away what was not sent. Until then a refusal shall arrive.
    pub(super) fn seal(&self) -> io::Result<()> {
        SockRef::from(self.tcp()).set_linger(Some(Duration::ZERO))
    }

    pub(super) fn peer_certificate(&self) -> Option<&rustls::pki_types::CertificateDer<'static>> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(stream) => stream.get_ref().1.peer_certificates()?.first(),
        }
    }
}

/// Makes the system notice within a bounded time that nobody is at the other end: by probes on an
/// idle connection, and by giving up on bytes that are not acknowledged.
pub(super) fn prepare(stream: &TcpStream, timings: &Timings) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let probe = (timings.unacknowledged / 4).max(Duration::from_secs(1));
    let keepalive = TcpKeepalive::new().with_time(probe).with_interval(probe).with_retries(3);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(timings.unacknowledged))
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// Cuts one connection off.
#[derive(Clone, Debug, Default)]
pub(super) struct Fence(Arc<FenceState>);

#[derive(Debug, Default)]
struct FenceState {
    is_closed: AtomicBool,
    reader: AtomicWaker,
    writer: AtomicWaker,
}

impl Fence {
    /// From now on nothing passes.
    pub(super) fn close(&self) {
        self.0.is_closed.store(true, Ordering::Release);
        self.0.reader.wake();
        self.0.writer.wake();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.0.is_closed.load(Ordering::Acquire)
    }

    fn refusal(&self) -> Option<io::Error> {
        self.is_closed().then(|| io::Error::new(io::ErrorKind::ConnectionAborted, "fenced"))
    }
}

/// A connection behind a fence.
#[derive(Debug)]
pub(super) struct Fenced<S = Connection> {
    pub(super) inner: S,
    pub(super) fence: Fence,
    /// What `ractor_cluster` calls the peer.
    pub(super) label: String,
}

impl<S: AsyncRead + Unpin> AsyncRead for Fenced<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // Registered before the flag is looked at, or a close in between would wake nobody.
        this.fence.0.reader.register(cx.waker());
        if let Some(refusal) = this.fence.refusal() {
            return Poll::Ready(Err(refusal));
        }
        Pin::new(&mut this.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Fenced<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.fence.0.writer.register(cx.waker());
        match this.fence.refusal() {
            Some(refusal) => Poll::Ready(Err(refusal)),
            None => Pin::new(&mut this.inner).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.fence.0.writer.register(cx.waker());
        match this.fence.refusal() {
            Some(refusal) => Poll::Ready(Err(refusal)),
            None => Pin::new(&mut this.inner).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

impl ClusterBidiStream for Fenced {
    fn split(self: Box<Self>) -> (BoxRead, BoxWrite) {
        let (reader, writer) = tokio::io::split(*self);
        (Box::new(reader), Box::new(writer))
    }

    fn peer_label(&self) -> Option<String> {
        Some(self.label.clone())
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn a_closed_fence_wakes_both_halves_and_lets_nothing_through() {
        let (near, mut far) = duplex(8);
        let fence = Fence::default();
        let fenced = Fenced { inner: near, fence: fence.clone(), label: String::new() };
        let (mut reader, mut writer) = tokio::io::split(fenced);
        let read = tokio::spawn(async move { reader.read_u8().await });
        // More than the peer's window: the writer waits.
        let write = tokio::spawn(async move { writer.write_all(&[1; 64]).await });
        let mut first = [0; 8];
        tokio::time::timeout(PATIENCE, far.read_exact(&mut first)).await.unwrap().unwrap();
        fence.close();
        for result in [
            tokio::time::timeout(PATIENCE, read).await.unwrap().unwrap().map(|_| ()),
            tokio::time::timeout(PATIENCE, write).await.unwrap().unwrap(),
        ] {
            assert_eq!(result.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        }
        let mut rest = Vec::new();
        tokio::time::timeout(PATIENCE, far.read_to_end(&mut rest)).await.unwrap().unwrap();
        assert!(rest.len() <= 8, "only what was under way: {}", rest.len());
    }
}
