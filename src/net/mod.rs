//! Sockets that never block: the part that is the same on every system.

use crate::Interests;

const READ: Interests = Interests::READABLE;
const WRITE: Interests = Interests::WRITABLE;

/// What the three types have in common. Each has std's socket of the same name in its field `socket`, and in its field
/// `edge` whatever edge mode has to remember where the kernel does not. The conversions, whose names differ from system
/// to system, are in `unix.rs` and `windows/winsock.rs`.
macro_rules! socket {
    ($name:ident) => {
        impl $name {
            /// Makes std's socket non-blocking and takes it over, with its registrations.
            ///
            /// # Errors
            ///
            /// The system's error if the mode cannot be set.
            pub fn from_std(socket: net::$name) -> io::Result<$name> {
                socket.set_nonblocking(true)?;
                Ok($name::adopt(socket))
            }

            /// Gives std's socket back. It stays non-blocking, and registered where it was.
            pub fn into_std(self) -> net::$name {
                self.edge.leave();
                self.socket
            }

            /// Wraps a socket in the mode it has, and takes over its registration.
            pub(crate) fn adopt(socket: net::$name) -> $name {
                $name::wrap(Edge::adopt(&socket), socket)
            }

            fn wrap(edge: Edge, socket: net::$name) -> $name {
                platform::forbid_sigpipe(&socket);
                $name { edge, socket }
            }

            /// Runs a call of your own on std's socket, one that this type has no method for, and takes note of a
            /// `WouldBlock` as the methods do. Otherwise edge mode on Windows would not report the next change.
            ///
            /// `direction` is what the call would wait for: `READABLE`, `WRITABLE` or both.
            ///
            /// # Errors
            ///
            /// * [`InvalidInput`](io::ErrorKind::InvalidInput): `direction` names no direction; `call` was not called.
            /// * Otherwise whatever `call` returns.
            pub fn try_io<T>(
                &self,
                direction: Interests,
                call: impl FnOnce(&net::$name) -> io::Result<T>,
            ) -> io::Result<T> {
                direction.check()?;
                self.attempt(direction, call)
            }

            /// Runs one call that may say `WouldBlock` and, where the kernel does not, takes note of it.
            #[inline]
            fn attempt<T>(
                &self,
                direction: Interests,
                call: impl FnOnce(&net::$name) -> io::Result<T>,
            ) -> io::Result<T> {
                let result = call(&self.socket);
                if matches!(&result, Err(error) if error.kind() == io::ErrorKind::WouldBlock) {
                    self.edge.blocked(direction);
                }
                result
            }

            /// Another handle to the same socket, non-blocking as well.
            ///
            /// # Errors
            ///
            /// The system's error, for instance if no descriptor is left.
            pub fn try_clone(&self) -> io::Result<$name> {
                let socket = self.socket.try_clone()?;
                Ok($name::wrap(self.edge.share(&socket), socket))
            }

            /// The address of this end.
            ///
            /// # Errors
            ///
            /// The system's error, as in std.
            pub fn local_addr(&self) -> io::Result<SocketAddr> {
                self.socket.local_addr()
            }

            /// The time to live of its packets, in hops.
            ///
            /// # Errors
            ///
            /// The system's error, as in std.
            pub fn ttl(&self) -> io::Result<u32> {
                self.socket.ttl()
            }

            /// Sets the time to live of its packets, in hops.
            ///
            /// # Errors
            ///
            /// The system's error, as in std.
            pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
                self.socket.set_ttl(ttl)
            }

            /// Takes the error that is pending on the socket, if there is one.
            ///
            /// # Errors
            ///
            /// The system's error if the question itself fails.
            pub fn take_error(&self) -> io::Result<Option<io::Error>> {
                self.socket.take_error()
            }
        }

        impl From<$name> for net::$name {
            fn from(socket: $name) -> net::$name {
                socket.into_std()
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.socket.fmt(f)
            }
        }
    };
}

mod datagrams;
mod listener;
mod stream;

pub use datagrams::UdpSocket;
pub use listener::TcpListener;
pub use stream::TcpStream;
