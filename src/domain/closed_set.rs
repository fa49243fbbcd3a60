//! Enums whose values have names in the database and on the command line.

/// Defines an enum together with the list of all its values and their names, in one place: a value that is added is in the
/// list, has a name, and is written and read by that name everywhere.
macro_rules! closed_set {
    (
        $(#[$about:meta])*
        pub enum $Set:ident {
            $($(#[$about_value:meta])* $Value:ident = $name:literal,)+
        }
    ) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $Set {
            $($(#[$about_value])* #[serde(rename = $name)] $Value,)+
        }

        impl $Set {
            /// All values, in their order.
            pub const ALL: [$Set; [$($name),+].len()] = [$($Set::$Value),+];

            /// The value with this name, if there is one. Names are case-sensitive.
            pub fn named(name: &str) -> Option<$Set> {
                $Set::ALL.into_iter().find(|value| value.as_str() == name)
            }

            /// Its name, as in the database and on the command line.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $($Set::$Value => $name,)+
                }
            }
        }

        impl std::fmt::Display for $Set {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}
pub(crate) use closed_set;
