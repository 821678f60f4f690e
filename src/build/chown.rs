//! `--chown`: users and groups by number, or by their names in the rootfs.

use std::path::Path;

use anyhow::{Context as _, Result};

use super::scratch_dir::ScratchDir;
use super::stage::LayeredRootfs;
use crate::error::Failure;
use crate::events::Context;
use crate::layer::{Source, flatten};
use crate::store::Store;

/// The value of `--chown`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ownership {
    user: Id,
    group: Option<Id>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Id {
    Number(u64),
    Name(String),
}

impl Ownership {
    /// Reads `user[:group]`; `None` if it is not valid.
    pub fn parse(text: &str) -> Option<Self> {
        let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
        let group = match group {
            Some(group) => Some(Id::parse(group)?),
            None => None,
        };
        Some(Ownership { user: Id::parse(user)?, group })
    }

    /// Uid and gid, if no name has to be looked up. Without a group the gid is the uid.
    pub fn numbers(&self) -> Option<(u64, u64)> {
        let user = self.user.number()?;
        Some((user, self.group.as_ref().map_or(Some(user), Id::number)?))
    }

    /// Uid and gid; names are looked up in the rootfs's `etc/passwd` and `etc/group`. A user's name alone gives its primary group.
    ///
    /// # Errors
    /// Fails if the rootfs has no such user or group.
    pub fn look_up(&self, rootfs: LayeredRootfs<'_>, scratch: &ScratchDir, store: &Store, ctx: &Context) -> Result<(u64, u64)> {
        if let Some(numbers) = self.numbers() {
            return Ok(numbers);
        }
        let paths = ["etc/passwd", "etc/group"].map(|file| rootfs.view.resolve(Path::new(file)));
        let tree = flatten(store, rootfs.layers, |path| paths.iter().any(|file| file == path), scratch.path()?, ctx)?;
        let text = |path: &Path| match tree.get(path).map(|entry| &entry.source) {
            Some(Source::File(file, _)) => fs_err::read_to_string(file),
            _ => Ok(String::new()),
        };
        let (passwd, groups) = (text(&paths[0])?, text(&paths[1])?);
        let (user, primary_group) = match &self.user {
            Id::Number(number) => (*number, *number),
            Id::Name(name) => in_passwd(&passwd, name).with_context(|| unknown("user", name, "passwd"))?,
        };
        let group = match &self.group {
            None => primary_group,
            Some(Id::Number(number)) => *number,
            Some(Id::Name(name)) => in_group(&groups, name).with_context(|| unknown("group", name, "group"))?,
        };
        Ok((user, group))
    }
}

impl Id {
    fn parse(text: &str) -> Option<Self> {
        let is_name = !text.is_empty() && !text.contains([':', '/', '\n']);
        is_name.then(|| text.parse::<u32>().map_or_else(|_| Id::Name(text.to_owned()), |number| Id::Number(number.into())))
    }

    /// `root` is 0 everywhere.
    fn number(&self) -> Option<u64> {
        match self {
            Id::Number(number) => Some(*number),
            Id::Name(name) => (name == "root").then_some(0),
        }
    }
}

fn unknown(kind: &str, name: &str, file: &str) -> Failure {
    Failure::failed(format!("--chown: no {kind} `{name}` in the rootfs's /etc/{file}"))
        .hint(format!("add the {kind} in a RUN before, or use its number"))
}

/// The fields of the line of `name` (passwd(5), group(5)).
fn fields<'a>(text: &'a str, name: &str) -> Option<Vec<&'a str>> {
    text.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields[0] == name)
}

fn in_passwd(text: &str, name: &str) -> Option<(u64, u64)> {
    let fields = fields(text, name)?;
    Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
}

fn in_group(text: &str, name: &str) -> Option<u64> {
    fields(text, name)?.get(2)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_numbers_or_names() {
        for (text, numbers) in [
            ("7", Some(Some((7, 7)))),
            ("7:8", Some(Some((7, 8)))),
            ("root:8", Some(Some((0, 8)))),
            ("root", Some(Some((0, 0)))),
            ("etcd", Some(None)),
            ("7:etcd", Some(None)),
            ("", None),
            ("a:", None),
            (":a", None),
            ("a:b:c", None),
        ] {
            assert_eq!(Ownership::parse(text).map(|owner| owner.numbers()), numbers, "{text}");
        }
    }

    #[test]
    fn names_are_found_in_their_files() {
        let passwd = "root:x:0:0::/root:/bin/sh\netcd:x:52:53:etcd:/:/bin/false\nbroken:x\n";
        assert_eq!((in_passwd(passwd, "etcd"), in_passwd(passwd, "broken"), in_passwd(passwd, "none")), (Some((52, 53)), None, None));
        assert_eq!(in_group("root:x:0:\nwheel:x:10:etcd\n", "wheel"), Some(10));
    }
}
