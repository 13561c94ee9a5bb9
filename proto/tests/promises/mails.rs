//! Exchanges whose mail is sealed.

use fairpost_proto::cose::Signed;
use fairpost_proto::evidence::Nro;
use fairpost_proto::ids::{ClusterId, Digest, ExchangeId, Protocol, Timestamp};
use fairpost_proto::letter;
use fairpost_proto::lock::Locked;
use fairpost_proto::sealed::{self, Access, Salt, Sealing, content_commitment, seal};
use fairpost_proto::terms::{Fields, Recipient, Sender, Terms};
use fairpost_proto::view::View;

use crate::people::Person;
use crate::world::{CREATED, MAIL, expires, updating, vector_file};

const SALT: [u8; 32] = [0x5a; 32];

/// An exchange whose mail is sealed.
pub(crate) struct Exchange {
    pub(crate) nro: Signed<Nro>,
    /// The part in the mail, from its magic on.
    pub(crate) container: Vec<u8>,
    /// In CMP2, what a party discloses.
    pub(crate) disclosure: Option<Locked>,
}

pub(crate) fn fields(
    genesis: &View,
    sender: &Person,
    recipient: &Person,
    protocol: Protocol,
    nonce: [u8; 16],
) -> Fields {
    Fields {
        protocol,
        cluster: genesis.cluster(),
        nonce,
        sender: Sender { address: sender.address.clone(), key: sender.key_id() },
        recipient: Recipient { address: recipient.address.clone(), key: Some(recipient.key_id()) },
        content: content_commitment(&Salt::from_bytes(SALT), MAIL).unwrap(),
        created: Timestamp::from_seconds(CREATED).unwrap(),
        expires: expires(),
    }
}

/// Where sealed mails come from.
pub(crate) struct Mails<'w> {
    pub(crate) genesis: &'w View,
    pub(crate) sender: &'w Person,
    pub(crate) recipient: &'w Person,
}

impl Mails<'_> {
    /// The exchange called `name`, whose body is in the file, or is sealed now if the vectors are being written.
    pub(crate) fn exchange(
        &self,
        name: &str,
        protocol: Protocol,
        mail: &[u8],
        locked_to: ClusterId,
    ) -> Exchange {
        let nonce = Digest::of(name.as_bytes()).as_bytes()[..16].try_into().unwrap();
        let fields = fields(self.genesis, self.sender, self.recipient, protocol, nonce);
        let terms = Terms::new(fields).unwrap();
        let stored = stored_body(name);
        let fits = |body: &Vec<u8>| sealed::inspect(&body[..], protocol, terms.exchange()).is_ok();
        let body = match stored.filter(fits) {
            Some(body) => body,
            None => {
                assert!(updating(), "mails.json has no mail for {name}: run with UPDATE_VECTORS=1");
                self.seal(&terms, mail, locked_to)
            }
        };
        let stanza = sealed::inspect(&body[..], protocol, terms.exchange()).unwrap();
        let nro = self.sender.sign(Nro { terms, sealed: Digest::of(&body) });
        let mut container = Vec::new();
        sealed::write_header(&letter::write_header(&nro), &mut container).unwrap();
        container.extend(body);
        let disclosure = (protocol == Protocol::Cmp2).then(|| stanza.lock_for(&self.sender.sealing).unwrap());
        Exchange { nro, container, disclosure }
    }

    fn seal(&self, terms: &Terms, mail: &[u8], locked_to: ClusterId) -> Vec<u8> {
        let access = match terms.protocol {
            Protocol::Cmp1 => Access::Cmp1,
            Protocol::Cmp2 => Access::Cmp2 {
                recipient: self.recipient.sealing.public(),
                sender: self.sender.sealing.public(),
            },
        };
        let (key, exchange) = (self.genesis.public_key(), terms.exchange());
        let sealing = Sealing { cluster: locked_to, key, exchange, access };
        let mut body = Vec::new();
        seal(&sealing, &Salt::from_bytes(SALT), mail, &mut body).unwrap();
        body
    }
}

fn stored_body(name: &str) -> Option<Vec<u8>> {
    let file = std::fs::read_to_string(vector_file("mails.json")).ok()?;
    let mails: Vec<serde_json::Value> = serde_json::from_str(&file).unwrap();
    let mail = mails.iter().find(|mail| mail["name"] == name)?;
    Some(hex::decode(mail["body"].as_str().unwrap()).unwrap())
}

impl Exchange {
    pub(crate) fn id(&self) -> ExchangeId {
        self.nro.payload().terms.exchange()
    }

    /// The age file in the container.
    pub(crate) fn body(&self) -> &[u8] {
        let header = letter::write_header(&self.nro);
        &self.container[12 + header.len()..]
    }
}
