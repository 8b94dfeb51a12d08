//! The macro that makes [`Reach`](super::Reach) of a list: goals with a sentence each, and matrices *fault × place*, whose
//! sentences are put together; first of those that any run may reach, then of those that need a network.

macro_rules! goals {
    (
        $($(#[doc = $doc:literal])+ $variant:ident $name:literal)*
        ;
        $($blow:ident { $($place:ident $struck:ident $struck_name:literal)* })*
        ;
        $($(#[doc = $of_network_doc:literal])+ $of_network:ident $of_network_name:literal)*
        ;
        $($cut:ident { $($at:ident $cut_off:ident $cut_off_name:literal)* })*
    ) => {
        /// Something that a sweep should have seen at least once.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        #[repr(u16)]
        pub enum Reach {
            $($(#[doc = $doc])+ $variant,)*
            $($($struck,)*)*
            $($(#[doc = $of_network_doc])+ $of_network,)*
            $($($cut_off,)*)*
        }

        impl Reach {
            /// In the order in which they are reported.
            pub const ALL: [Reach; Reach::ANYWHERE.len() + Reach::OF_NETWORK.len()] = {
                let mut all = [Reach::ANYWHERE[0]; Reach::ANYWHERE.len() + Reach::OF_NETWORK.len()];
                let (anywhere, of_network) = all.split_at_mut(Reach::ANYWHERE.len());
                anywhere.copy_from_slice(Reach::ANYWHERE);
                of_network.copy_from_slice(Reach::OF_NETWORK);
                all
            };

            /// What is asked of all runs together.
            pub const ANYWHERE: &[Reach] = &[$(Reach::$variant,)* $($(Reach::$struck,)*)*];

            /// What is asked of runs over a network alone.
            pub const OF_NETWORK: &[Reach] = &[$(Reach::$of_network,)* $($(Reach::$cut_off,)*)*];

            pub const fn name(self) -> &'static str {
                match self {
                    $(Reach::$variant => $name,)*
                    $($(Reach::$struck => $struck_name,)*)*
                    $(Reach::$of_network => $of_network_name,)*
                    $($(Reach::$cut_off => $cut_off_name,)*)*
                }
            }

            /// One sentence.
            pub fn summary(self) -> String {
                match self {
                    $(Reach::$variant => String::from(concat!($($doc,)+).trim().trim_end_matches('.')),)*
                    $($(Reach::$struck => format!("{} {}", Blow::$blow.phrase(), Place::$place.phrase()),)*)*
                    $(Reach::$of_network => {
                        String::from(concat!($($of_network_doc,)+).trim().trim_end_matches('.'))
                    })*
                    $($(Reach::$cut_off => format!("{} {}", Blow::$cut.phrase(), Place::$at.phrase()),)*)*
                }
            }
        }

        /// The goal of a fault at a place, if that can be.
        pub(super) const fn struck(blow: Blow, place: Place) -> Option<Reach> {
            match (blow, place) {
                $($((Blow::$blow, Place::$place) => Some(Reach::$struck),)*)*
                $($((Blow::$cut, Place::$at) => Some(Reach::$cut_off),)*)*
                _ => None,
            }
        }
    };
}
