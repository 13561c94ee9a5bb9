//! The promises of the formats, of the rules about evidence, and of the judge, each kept by a test.
//!
//! All of it happens in one small [`world`] with fixed keys: a cluster of four, a CA, a sender, a recipient, and
//! people who are neither. `vectors` makes the files under `proto/vectors` that are about formats, checks that the
//! files checked in are what it makes, and that each of them is taken or refused as it says; the other modules try
//! the rules, breaking one thing at a time.

#[cfg(test)]
mod certificate;
#[cfg(test)]
mod evidence;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod item;
#[cfg(test)]
mod judge;
#[cfg(test)]
mod mails;
#[cfg(test)]
mod people;
#[cfg(test)]
mod request;
#[cfg(test)]
mod trust;
#[cfg(test)]
mod vectors;
#[cfg(test)]
mod world;
