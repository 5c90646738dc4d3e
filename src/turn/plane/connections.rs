//! The connections of the stream shard, by number, so that a late event never reaches another one.

use super::connection::Connection;

/// Tokens from here on are those of connections.
const FIRST_TOKEN: u64 = 1 << 63;

/// What epoll says of a connection: its number, and which of all that had the number it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) number: u32,
    generation: u32,
}

impl Token {
    /// `None`: the event is about something else.
    pub(super) fn read(data: u64) -> Option<Self> {
        let generation = u32::try_from(data.checked_sub(FIRST_TOKEN)? >> 32).ok()?;
        Some(Self { number: (data & u64::from(u32::MAX)) as u32, generation })
    }

    pub(super) fn data(self) -> u64 {
        FIRST_TOKEN | u64::from(self.generation) << 32 | u64::from(self.number)
    }
}

struct Place<T> {
    generation: u32,
    connection: Option<Box<T>>,
}

/// Connections by number.
pub(super) struct Connections<T = Connection> {
    places: Vec<Place<T>>,
    free: Vec<u32>,
}

impl<T> Default for Connections<T> {
    fn default() -> Self {
        Self { places: Vec::new(), free: Vec::new() }
    }
}

impl<T> Connections<T> {
    /// Takes in the connection that `make` makes of its number.
    pub(super) fn insert(&mut self, make: impl FnOnce(u32) -> T) -> Token {
        let number = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place { generation: 0, connection: None });
            u32::try_from(self.places.len() - 1).expect("edge accepts some thousand connections")
        });
        let place = &mut self.places[number as usize];
        place.connection = Some(Box::new(make(number)));
        Token { number, generation: place.generation }
    }

    /// The connection that an event is about, unless that has ended.
    pub(super) fn by_token(&mut self, token: Token) -> Option<&mut T> {
        let place = self.places.get_mut(token.number as usize)?;
        (place.generation == token.generation).then_some(place.connection.as_deref_mut()).flatten()
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        self.places.get_mut(number as usize)?.connection.as_deref_mut()
    }

    /// What epoll is told of the connection that has this number now.
    pub(super) fn token(&self, number: u32) -> Option<Token> {
        let place = self.places.get(number as usize)?;
        place.connection.is_some().then_some(Token { number, generation: place.generation })
    }

    pub(super) fn remove(&mut self, number: u32) -> Option<Box<T>> {
        let place = self.places.get_mut(number as usize)?;
        let connection = place.connection.take()?;
        // Half of the numbers there are: the highest bit of a token says that it is one.
        place.generation = (place.generation + 1) & (u32::MAX >> 1);
        self.free.push(number);
        Some(connection)
    }

    /// All numbers in use.
    pub(super) fn numbers(&self) -> Vec<u32> {
        (0..).zip(&self.places).filter(|(_, place)| place.connection.is_some()).map(|(number, _)| number).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_for_a_connection_that_ended_does_not_reach_the_next_one() {
        let mut connections = Connections::default();
        let first = connections.insert(|number| (number, "first"));
        let second = connections.insert(|number| (number, "second"));
        assert_eq!(connections.by_token(first).map(|it| *it), Some((0, "first")));
        assert!(connections.remove(first.number).is_some() && connections.remove(first.number).is_none());
        assert_eq!(connections.by_token(first), None);
        assert_eq!(connections.token(first.number), None);
        let third = connections.insert(|number| (number, "third"));
        assert_eq!((third.number, connections.by_token(first)), (first.number, None));
        assert_eq!(connections.by_token(third).map(|it| *it), Some((0, "third")));
        assert_eq!(connections.by_token(second).map(|it| *it), Some((1, "second")));
        assert_eq!(connections.numbers(), [0, 1]);
    }

    #[test]
    fn tokens_are_told_from_other_events() {
        for token in [Token { number: 0, generation: 0 }, Token { number: u32::MAX, generation: u32::MAX >> 1 }] {
            assert_eq!(Token::read(token.data()), Some(token));
        }
        assert_eq!(Token::read(FIRST_TOKEN - 1), None);
    }
}
