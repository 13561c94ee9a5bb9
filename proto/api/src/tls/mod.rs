//! TLS between nodes, clients and operators, pinned to identity keys.
//!
//! # Specification
//!
//! Nobody issues certificates here. Whoever wants to be recognised signs, with an Ed25519 identity key, a binding for a
//! TLS key ([`fairpost_proto::binding`]); a self-signed certificate for that TLS key carries it. TLS proves possession
//! of the TLS key, and the binding says which identity it speaks for.
//!
//! - A client names the identity that it wants at the other end ([`Pin`]), and gets a connection to nobody else.
//! - A server asks for a certificate and does without. It takes any that proves possession and carries a binding;
//!   who may do what is for each service to say, call by call, from [`ConnectInfo`] and the view of the day.
//!
//! TLS 1.3, and 1.2 for clients of other makes; both with the algorithms of rustls and *ring*. The certificate's names
//! and dates are there for those other clients. Here only the binding counts: what ends an identity is the view.
//! Sessions are not resumed, so that every connection proves possession anew.
//!
//! # Relies on
//!
//! Identity keys sign nothing but COSE with a `typ`, so no other signature passes for a binding.
//!
//! # Guarantees
//!
//! - A certificate parses only if it carries one binding, and that is for the certificate's own key:
//!   [`PeerCertificate::from_der`] (test `a_binding_for_another_key_is_refused`).
//! - The key whose digest is compared is the key that the handshake proves: both come from one parser.
//! - A pinned client talks to the holder of the pinned identity only: [`client_config`] (tests
//!   `a_client_refuses_another_identity`, `a_client_refuses_a_forged_binding`).
//! - A connection that says nothing delays no other: [`Incoming`] (test `a_silent_connection_delays_nobody`).
//! - Strangers, however many, take no place of members and operators: [`Known`] (test
//!   `strangers_take_no_place_of_those_who_are_known`). Without a request they are cut (test
//!   `a_connection_without_a_request_is_cut`).

mod channel;
mod config;
mod connection;
mod credentials;
mod incoming;
mod peer;
mod places;
mod portions;

pub use channel::{ChannelOptions, ConnectError, Target, TargetError, channel, connect_error};
pub use config::{Pin, client_config, server_config};
pub use connection::{Connection, UnderWay};
pub use credentials::{Credentials, CredentialsError};
pub use incoming::{ConnectInfo, Incoming, IncomingOptions, Known, TlsStream};
pub use peer::{Error, PeerCertificate};
pub use places::{Connections, Place, Places, Source};
