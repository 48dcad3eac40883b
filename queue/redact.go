package queue

import "strings"

// redactText replaces the text before each @, which is user and password if it is part of a server's address: from the
// :// before it on, whatever characters the password has.
func redactText(s string) string {
	var b strings.Builder
	for {
		at := strings.IndexByte(s, '@')
		if at < 0 {
			b.WriteString(s)
			return b.String()
		}
		from := strings.LastIndexAny(s[:at], " ,\"") + 1
		if scheme := strings.LastIndex(s[:at], "://"); scheme >= 0 {
			from = scheme + len("://")
		}
		b.WriteString(s[:from])
		b.WriteString("xxxxx@")
		s = s[at+1:]
	}
}

// redacted is an error without passwords in its text. Some errors of nats.go have the server's address as it was given.
type redacted struct{ error }

func (r redacted) Error() string { return redactText(r.error.Error()) }

func (r redacted) Unwrap() error { return r.error }

func redact(err error) error {
	if err == nil {
		return nil
	}
	return redacted{err}
}
