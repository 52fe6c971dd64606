//! What is looked for: one list for each class of attack.
//!
//! A rule is a pattern and the words of which one must occur for it to match, so that one search for all words
//! tells which patterns are worth a try. Patterns see the value without its disguises; those of SQL also without
//! comments. Many follow rules of the OWASP Core Rule Set (see `NOTICE`), narrowed to what is no prose.

mod code;
mod command;
mod file;
mod protocol;
mod script;
mod sql;

use std::{fmt, str::FromStr};

/// One thing that is looked for.
pub(super) struct Rule {
    /// How it is called in the configuration, in logs and in counts.
    pub(super) id: &'static str,
    pub(super) class: Class,
    /// What a match adds to the score.
    pub(super) score: u32,
    pub(super) places: Places,
    /// Parts of every match, in lower case; none if what finds it is written in code.
    pub(super) words: &'static [&'static str],
    pub(super) pattern: &'static str,
}

/// Certainly an attack.
pub(super) const CRITICAL: u32 = 5;
/// Rarely meant well.
pub(super) const WARNING: u32 = 3;
/// Odd.
pub(super) const NOTICE: u32 = 2;

/// What an attack aims at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Sqli,
    Xss,
    Traversal,
    Rce,
    Php,
    Java,
    Template,
    Nosql,
    Ldap,
    Xxe,
    Ssrf,
    Prototype,
    Protocol,
    Scanner,
}

impl Class {
    pub(super) const ALL: [Self; 14] = [
        Self::Sqli,
        Self::Xss,
        Self::Traversal,
        Self::Rce,
        Self::Php,
        Self::Java,
        Self::Template,
        Self::Nosql,
        Self::Ldap,
        Self::Xxe,
        Self::Ssrf,
        Self::Prototype,
        Self::Protocol,
        Self::Scanner,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Sqli => "sqli",
            Self::Xss => "xss",
            Self::Traversal => "traversal",
            Self::Rce => "rce",
            Self::Php => "php",
            Self::Java => "java",
            Self::Template => "template",
            Self::Nosql => "nosql",
            Self::Ldap => "ldap",
            Self::Xxe => "xxe",
            Self::Ssrf => "ssrf",
            Self::Prototype => "prototype",
            Self::Protocol => "protocol",
            Self::Scanner => "scanner",
        }
    }
}

impl FromStr for Class {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|class| class.name() == text);
        known.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join("`, `");
            format!("expected one of `{names}`, found `{text}`")
        })
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Kinds of places of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Places(u16);

impl Places {
    pub(super) const PATH: Self = Self(1);
    /// Names of parameters, keys of JSON, names of fields.
    pub(super) const NAME: Self = Self(2);
    /// Values of parameters, texts of JSON, fields of forms.
    pub(super) const VALUE: Self = Self(4);
    pub(super) const COOKIE: Self = Self(8);
    /// Headers but the following, `User-Agent` and cookies.
    pub(super) const HEADER: Self = Self(16);
    pub(super) const AGENT: Self = Self(32);
    /// Files that are sent, and bodies of types that are not known.
    pub(super) const RAW: Self = Self(64);
    /// XML as a whole.
    pub(super) const XML: Self = Self(128);
    /// The names of files that are sent.
    pub(super) const FILE_NAME: Self = Self(256);

    pub(super) const INPUT: Self = Self::NAME.and(Self::VALUE).and(Self::COOKIE);
    pub(super) const ANY: Self = Self(0x3f | Self::FILE_NAME.0);
    pub(super) const EVERYWHERE: Self = Self(0x1ff);

    pub(super) const fn and(self, places: Self) -> Self {
        Self(self.0 | places.0)
    }

    pub(super) fn has(self, place: Self) -> bool {
        self.0 & place.0 != 0
    }
}

/// All rules, those of one class after the other.
pub(super) fn all() -> impl Iterator<Item = &'static Rule> {
    [
        sql::RULES,
        script::RULES,
        file::RULES,
        command::RULES,
        code::RULES,
        protocol::RULES,
    ]
    .into_iter()
    .flatten()
}

/// Rules that are found by code instead of a pattern.
pub(super) mod by_code {
    pub(in crate::waf) const SQL_GRAMMAR: &str = "sqli-grammar";
    pub(in crate::waf) const SQL_STATEMENT: &str = "sqli-statement";
    pub(in crate::waf) const SQL_TAUTOLOGY: &str = "sqli-tautology";
    pub(in crate::waf) const SQL_BREAKOUT: &str = "sqli-breakout";
    pub(in crate::waf) const SQL_STACKED: &str = "sqli-stacked";
    pub(in crate::waf) const NOSQL_OPERATOR: &str = "nosql-operator";
    pub(in crate::waf) const HTML_GRAMMAR: &str = "xss-grammar";
    pub(in crate::waf) const CHARSET: &str = "protocol-charset";
    pub(in crate::waf) const MALFORMED: &str = "protocol-malformed-body";
    pub(in crate::waf) const NESTING: &str = "protocol-nesting";
    pub(in crate::waf) const COMPRESSED: &str = "protocol-compressed-body";
    pub(in crate::waf) const COUNT: &str = "protocol-parameter-count";
    pub(in crate::waf) const MULTIPART: &str = "protocol-multipart";
}
