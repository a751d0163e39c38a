//! A switch that cuts a node off from all others, as a fault that is ordered for a test run.
//!
//! Every connection between nodes goes through a [`Line`], so what lies above, from the deadlines of an
//! introduction to the detector of failures, meets what it meets when a cable is pulled: connections
//! stay open and silent both ways, dials get no answer, and what a side closes meanwhile the other does
//! not hear of. What was under way arrives when the line is whole again, as TCP would send it once more.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

/// Between two looks at whether a line is whole again.
const LOOK: Duration = Duration::from_millis(5);

/// Closed connections that are kept from being seen to be closed, at most.
const UNHEARD_MAX: usize = 4_096;

/// See the module. Clones share everything.
#[derive(Clone, Debug, Default)]
pub(super) struct Cut(Arc<CutState>);

#[derive(Debug, Default)]
struct CutState {
    /// Cuts that are not over.
    cuts: AtomicUsize,
    /// Connections that were closed meanwhile. At most [`UNHEARD_MAX`].
    unheard: Mutex<Vec<TcpStream>>,
}

impl Cut {
    /// Nothing passes for so long.
    pub(super) fn cut_for(&self, time: Duration) {
        self.0.cuts.fetch_add(1, Ordering::AcqRel);
        let state = Arc::clone(&self.0);
        tokio::spawn(async move {
            sleep(time).await;
            if state.cuts.fetch_sub(1, Ordering::AcqRel) == 1 {
                state.unheard.lock().unwrap_or_else(PoisonError::into_inner).clear();
            }
        });
    }

    fn is_cut(&self) -> bool {
        self.0.cuts.load(Ordering::Acquire) > 0
    }

    /// Waits until something could pass.
    pub(super) async fn is_whole(&self) {
        while self.is_cut() {
            sleep(LOOK).await;
        }
    }

    fn close(&self, stream: TcpStream) {
        let mut unheard = self.0.unheard.lock().unwrap_or_else(PoisonError::into_inner);
        // Looked at under the lock, or one could come after all others were let go.
        if self.is_cut() && unheard.len() < UNHEARD_MAX {
            unheard.push(stream);
        }
    }
}

/// A connection that can be cut.
#[derive(Debug)]
pub(super) struct Line {
    /// Always there until the line is dropped.
    stream: Option<TcpStream>,
    cut: Cut,
    /// When each half looks again; only while it is cut.
    reader: Option<Pin<Box<Sleep>>>,
    writer: Option<Pin<Box<Sleep>>>,
}

impl Line {
    pub(super) fn new(stream: TcpStream, cut: Cut) -> Self {
        Self { stream: Some(stream), cut, reader: None, writer: None }
    }

    pub(super) fn tcp(&self) -> &TcpStream {
        self.stream.as_ref().expect("only the end of the line takes it")
    }

    fn half(stream: &mut Option<TcpStream>) -> Pin<&mut TcpStream> {
        Pin::new(stream.as_mut().expect("only the end of the line takes it"))
    }
}

/// Ready while nothing is cut; else looks again in a while.
fn poll_whole(cut: &Cut, look: &mut Option<Pin<Box<Sleep>>>, cx: &mut Context<'_>) -> Poll<()> {
    while cut.is_cut() {
        let waiting = look.get_or_insert_with(|| Box::pin(sleep(LOOK)));
        if waiting.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        *look = None;
    }
    *look = None;
    Poll::Ready(())
}

impl AsyncRead for Line {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        std::task::ready!(poll_whole(&this.cut, &mut this.reader, cx));
        Self::half(&mut this.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Line {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        std::task::ready!(poll_whole(&this.cut, &mut this.writer, cx));
        Self::half(&mut this.stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        std::task::ready!(poll_whole(&this.cut, &mut this.writer, cx));
        Self::half(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        std::task::ready!(poll_whole(&this.cut, &mut this.writer, cx));
        Self::half(&mut this.stream).poll_shutdown(cx)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Some(stream) = self.stream.take()
            && self.cut.is_cut()
        {
            self.cut.close(stream);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::time::{Instant, timeout};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);
    const CUT: Duration = Duration::from_millis(300);

    async fn pair(cut: &Cut) -> (Line, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let far = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (Line::new(listener.accept().await.unwrap().0, cut.clone()), far)
    }

    #[tokio::test]
    async fn what_is_said_while_a_line_is_cut_arrives_when_it_is_whole() {
        let cut = Cut::default();
        let (mut near, mut far) = pair(&cut).await;
        near.write_u8(1).await.unwrap();
        assert_eq!(far.read_u8().await.unwrap(), 1);
        let begun = Instant::now();
        cut.cut_for(CUT);
        far.write_u8(2).await.unwrap();
        let (mut reader, mut writer) = tokio::io::split(near);
        let said = tokio::spawn(async move { writer.write_u8(3).await.map(|()| writer) });
        assert_eq!(timeout(PATIENCE, reader.read_u8()).await.unwrap().unwrap(), 2);
        assert!(begun.elapsed() >= CUT, "it was read through the cut");
        assert_eq!(timeout(PATIENCE, far.read_u8()).await.unwrap().unwrap(), 3);
        assert!(begun.elapsed() >= CUT, "it was written through the cut");
        drop(timeout(PATIENCE, said).await.unwrap());
    }

    #[tokio::test]
    async fn nobody_hears_that_a_cut_line_was_closed_until_it_is_whole() {
        let cut = Cut::default();
        let (near, mut far) = pair(&cut).await;
        let begun = Instant::now();
        cut.cut_for(CUT);
        drop(near);
        assert_eq!(timeout(PATIENCE, far.read(&mut [0])).await.unwrap().unwrap(), 0);
        assert!(begun.elapsed() >= CUT, "its end was heard through the cut");
    }
}
