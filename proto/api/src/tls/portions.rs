//! Reading in portions, so that one connection with much to say does not keep a thread from all others.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream that is read so many bytes at a time. After them its task gives way once to all others that are ready.
///
/// HTTP/2 reads for as long as there is something to read, and begins every request that it finds. From a full socket
/// buffer that is thousands in a row.
#[derive(Debug)]
pub(super) struct Portions<S> {
    stream: S,
    portion: usize,
    left: usize,
}

impl<S> Portions<S> {
    /// Reads `stream` in portions of so many bytes, at least 1.
    pub(super) fn new(stream: S, portion: usize) -> Self {
        let portion = portion.max(1);
        Self { stream, portion, left: portion }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Portions<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { stream, portion, left } = &mut *self;
        if *left == 0 {
            *left = *portion;
            // A task that wakes itself goes to the end of the queue.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let room = buffer.remaining().min(*left);
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(room));
        let read = Pin::new(stream).poll_read(context, &mut part);
        let bytes = part.filled().len();
        buffer.advance(bytes);
        // Who has to wait for bytes has given way.
        *left = if read.is_pending() { *portion } else { *left - bytes };
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Portions<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Wake, Waker};

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn read(stream: &mut (impl AsyncRead + Unpin), woken: &Arc<Woken>) -> Option<usize> {
        let waker = Waker::from(Arc::clone(woken));
        let mut bytes = [0; 100];
        let mut buffer = ReadBuf::new(&mut bytes);
        match Pin::new(stream).poll_read(&mut Context::from_waker(&waker), &mut buffer) {
            Poll::Ready(read) => {
                read.unwrap();
                Some(buffer.filled().len())
            }
            Poll::Pending => None,
        }
    }

    #[test]
    fn after_a_portion_the_others_are_let_in_and_then_it_goes_on() {
        let woken = Arc::new(Woken::default());
        let bytes = [7; 250];
        let mut stream = Portions::new(bytes.as_slice(), 120);
        let reads: Vec<_> = (0..7).map(|_| read(&mut stream, &woken)).collect();
        assert_eq!(reads, [Some(100), Some(20), None, Some(100), Some(20), None, Some(10)]);
        assert_eq!(woken.0.load(Ordering::Relaxed), 2, "who gives way is called again");
    }

    #[tokio::test]
    async fn who_waited_for_bytes_has_a_whole_portion_again() {
        let woken = Arc::new(Woken::default());
        let (mut near, far) = tokio::io::duplex(1000);
        let mut stream = Portions::new(far, 120);
        for _ in 0..3 {
            tokio::io::AsyncWriteExt::write_all(&mut near, &[7; 100]).await.unwrap();
            assert_eq!(read(&mut stream, &woken), Some(100));
            assert_eq!(read(&mut stream, &woken), None, "there is nothing");
        }
    }
}
