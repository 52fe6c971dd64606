//! What a product is; a value that exists is right.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A product with its number.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Product {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) price: Price,
}

/// A product that has no number yet: `{"name": "iPhone 9", "price": 549}`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewProduct {
    pub(crate) name: Name,
    pub(crate) price: Price,
}

/// Between 1 and 200 characters, not only blanks.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Name(String);

impl Name {
    pub(crate) fn into_string(self) -> String {
        self.0
    }
}

impl TryFrom<String> for Name {
    type Error = Invalid;

    fn try_from(name: String) -> Result<Self, Invalid> {
        let right = !name.trim().is_empty() && name.chars().count() <= 200;
        right
            .then(|| Self(name.trim().to_owned()))
            .ok_or(Invalid::Name)
    }
}

/// An amount of money, in JSON a number such as `549` or `9.99`. Cents inside, so that it adds up.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "f64", into = "f64")]
pub(crate) struct Price(i64);

impl Price {
    pub(crate) fn from_cents(cents: i64) -> Self {
        Self(cents)
    }

    pub(crate) fn cents(self) -> i64 {
        self.0
    }
}

impl TryFrom<f64> for Price {
    type Error = Invalid;

    fn try_from(amount: f64) -> Result<Self, Invalid> {
        let cents = (amount * 100.0).round();
        let whole = (amount * 100.0 - cents).abs() < 1e-6;
        if !whole || !(0.0..=100_000_000_000.0).contains(&cents) {
            return Err(Invalid::Price);
        }
        // Within the range just checked every whole number is exact in both types.
        Ok(Self(cents as i64))
    }
}

impl From<Price> for f64 {
    fn from(price: Price) -> Self {
        price.0 as Self / 100.0
    }
}

/// Why a product was not taken.
#[derive(Clone, Copy, Debug, Error)]
pub(crate) enum Invalid {
    #[error("a name has between 1 and 200 characters")]
    Name,
    #[error("a price is a number from 0 to 1000000000 with at most two decimals")]
    Price,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_comes_out_as_it_went_in() {
        for text in ["0.0", "0.01", "9.99", "549.0", "1000000000.0", "19.9"] {
            let price: Price = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&price).unwrap(), text);
        }
    }

    #[test]
    fn a_price_that_is_none_is_refused() {
        for text in ["-0.01", "0.001", "1e300", "null", "\"9\"", "1000000000.01"] {
            assert!(serde_json::from_str::<Price>(text).is_err(), "{text}");
        }
        assert!(Price::try_from(f64::NAN).is_err());
        assert!(Price::try_from(f64::INFINITY).is_err());
    }

    #[test]
    fn a_name_is_neither_blank_nor_endless() {
        for name in [String::new(), " \t".to_owned(), "x".repeat(201)] {
            assert!(Name::try_from(name).is_err());
        }
        assert_eq!(
            Name::try_from(" iPhone 9 ".to_owned())
                .unwrap()
                .into_string(),
            "iPhone 9"
        );
    }
}
