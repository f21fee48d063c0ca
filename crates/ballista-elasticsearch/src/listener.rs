//! A listener that accepts connections with and without TLS on one port.
//!
//! Owns: accepting connections, the TLS handshake, and identifying the caller. Must not know: what is served.
//!
//! Each handshake runs in a task of its own with a time limit, so a caller that sends nothing blocks no other. A
//! caller without TLS is accepted as well, so that probes work. The request handler sees which one it is.

use crate::caller::{Caller, Link};
use flowsigma_node::subject_of;
use rustls::ServerConfig;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

/// A caller that sends nothing for this time is disconnected.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// The maximum of concurrent handshakes. Further callers wait.
const MAX_HANDSHAKES: usize = 256;
/// The first byte of a TLS handshake.
const TLS_HANDSHAKE: u8 = 0x16;

/// An accepted connection.
pub(crate) struct Accepted {
    stream: Stream,
    caller: Caller,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connected for Accepted {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

/// Returns the connections of a TCP listener. A connection uses TLS if the caller starts with it and `tls` is set.
pub(crate) fn accept(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
) -> ReceiverStream<io::Result<Accepted>> {
    let (sender, accepted) = mpsc::channel(1);
    let handshakes = Arc::new(Semaphore::new(MAX_HANDSHAKES));
    tokio::spawn(async move {
        loop {
            let stream = tokio::select! {
                stream = listener.accept() => stream,
                () = sender.closed() => return,
            };
            let Ok((stream, address)) = stream else {
                // For example too many open files: others may be closed meanwhile.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            stream.set_nodelay(true).ok();
            let Ok(turn) = Arc::clone(&handshakes).acquire_owned().await else { return };
            let (sender, tls) = (sender.clone(), tls.clone());
            tokio::spawn(async move {
                let begun = tokio::time::timeout(HANDSHAKE_TIMEOUT, begin(stream, tls)).await;
                drop(turn);
                match begun {
                    Ok(Ok((stream, link))) => {
                        let caller = Caller { address, link };
                        sender.send(Ok(Accepted { stream, caller })).await.ok();
                    }
                    Ok(Err(error)) => tracing::debug!(%address, %error, "a connection was not accepted"),
                    Err(_) => tracing::debug!(%address, "a connection was closed: it sent nothing in time"),
                }
            });
        }
    });
    ReceiverStream::new(accepted)
}

async fn begin(stream: TcpStream, tls: Option<Arc<ServerConfig>>) -> io::Result<(Stream, Link)> {
    let Some(tls) = tls else { return Ok((Stream::Plain(stream), Link::Plain)) };
    let mut first = [0];
    if stream.peek(&mut first).await? == 0 || first[0] != TLS_HANDSHAKE {
        return Ok((Stream::Plain(stream), Link::Plain));
    }
    let stream = TlsAcceptor::from(tls).accept(stream).await?;
    let certificates = stream.get_ref().1.peer_certificates();
    let subject = certificates.and_then(|chain| chain.first()).and_then(|first| subject_of(first));
    Ok((Stream::Tls(Box::new(stream)), Link::Tls(subject)))
}

impl AsyncRead for Accepted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(context),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
