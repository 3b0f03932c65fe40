//! Who may read a namespace (API contract §16).

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Visibility {
    /// Everyone.
    #[default]
    Public,
    /// Tokens of the namespace that may read, and the operator.
    Private,
}

impl Visibility {
    /// Its name in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Private => "private",
        }
    }

    /// The one of this name.
    pub fn of_name(name: &str) -> Option<Self> {
        let mut all = [Self::Public, Self::Private].into_iter();
        all.find(|visibility| visibility.name() == name)
    }
}
