//! How a server wants to know who asks: the header `WWW-Authenticate` (RFC 9110, section 11.6.1),
//! of which registries use `Basic` and the `Bearer` of the distribution specification.

/// One way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// User and password, with each request.
    Basic,
    /// A token, to be had at `realm`.
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

/// The ways that one header names, in its order; others than these two, and what can't be read, are
/// passed over.
pub(super) fn challenges(header: &str) -> Vec<Challenge> {
    let mut reader = Reader { rest: header };
    let (mut schemes, mut reading) = (Vec::<Scheme>::new(), true);
    while reading {
        reader.skip(|letter| letter.is_ascii_whitespace() || letter == ',');
        let word = reader.token();
        if word.is_empty() {
            // Nothing more, or something that is none.
            reading = false;
        } else if reader.takes('=') {
            let value = reader.value();
            if let Some(scheme) = schemes.last_mut() {
                scheme.parameters.push((word.to_ascii_lowercase(), value));
            }
        } else {
            schemes.push(Scheme { name: word.to_ascii_lowercase(), parameters: Vec::new() });
        }
    }
    schemes.into_iter().filter_map(Scheme::challenge).collect()
}

struct Scheme {
    name: String,
    parameters: Vec<(String, String)>,
}

impl Scheme {
    fn challenge(self) -> Option<Challenge> {
        let parameter = |wanted: &str| {
            let found = self.parameters.iter().find(|(name, _)| name == wanted);
            found.map(|(_, value)| value.clone()).filter(|value| !value.is_empty())
        };
        match self.name.as_str() {
            "basic" => Some(Challenge::Basic),
            "bearer" => {
                let (service, scope) = (parameter("service"), parameter("scope"));
                parameter("realm").map(|realm| Challenge::Bearer { realm, service, scope })
            }
            _ => None,
        }
    }
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn skip(&mut self, what: impl Fn(char) -> bool) {
        self.rest = self.rest.trim_start_matches(what);
    }

    /// The longest token here, which may be none.
    fn token(&mut self) -> String {
        let is_of_token = |letter: char| letter.is_ascii_graphic() && !",=\"".contains(letter);
        let end = self.rest.find(|letter| !is_of_token(letter)).unwrap_or(self.rest.len());
        let (token, rest) = self.rest.split_at(end);
        self.rest = rest;
        token.to_owned()
    }

    /// Whether this comes next, after spaces; then it is passed.
    fn takes(&mut self, letter: char) -> bool {
        let passed = self.rest.trim_start().strip_prefix(letter);
        self.rest = passed.unwrap_or(self.rest);
        passed.is_some()
    }

    /// A token, or a text in quotes, where a backslash means the letter after it.
    fn value(&mut self) -> String {
        if !self.takes('"') {
            self.skip(|letter| letter.is_ascii_whitespace());
            return self.token();
        }
        let (mut value, mut letters) = (String::new(), self.rest.chars());
        while let Some(letter) = letters.next() {
            match letter {
                '"' => break,
                '\\' => value.extend(letters.next()),
                letter => value.push(letter),
            }
        }
        self.rest = letters.as_str();
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        let [service, scope] = [service, scope].map(|text| text.map(str::to_owned));
        Challenge::Bearer { realm: realm.into(), service, scope }
    }

    #[test]
    fn what_registries_say_is_read() {
        let said = "Bearer realm=\"https://auth.docker.io/token\",\
                    service=\"registry.docker.io\",scope=\"repository:a/b:pull,push\"";
        let wanted = bearer(
            "https://auth.docker.io/token",
            Some("registry.docker.io"),
            Some("repository:a/b:pull,push"),
        );
        assert_eq!(challenges(said), [wanted]);
        assert_eq!(challenges("Basic realm=\"Registry Realm\""), [Challenge::Basic]);
        assert_eq!(challenges("BASIC"), [Challenge::Basic]);
        assert_eq!(
            challenges("bearer REALM = https://a/b ,x=y"),
            [bearer("https://a/b", None, None)]
        );
    }

    #[test]
    fn there_may_be_several() {
        let said =
            r#"Negotiate, Basic realm="a, Bearer r=\"b\"" , Bearer service="s",realm="https://c""#;
        assert_eq!(challenges(said), [Challenge::Basic, bearer("https://c", Some("s"), None)]);
    }

    #[test]
    fn what_can_not_be_read_is_passed_over() {
        for said in [
            "",
            " , ",
            "Bearer",
            "Bearer realm=",
            "Bearer realm=\"\"",
            "=x",
            "\"",
            "Bearer =\"x",
            "Digest a=b",
        ] {
            assert_eq!(challenges(said), [], "{said}");
        }
        assert_eq!(challenges("Bearer realm=\"https://a"), [bearer("https://a", None, None)]);
        assert_eq!(challenges("Negotiate abc==, Basic"), []);
    }
}
