package queue

import (
	"net/url"
	"strings"
)

// redactURLs removes user and password from a list of server addresses.
func redactURLs(list string) string {
	urls := strings.Split(list, ",")
	for i, u := range urls {
		u = strings.TrimSpace(u)
		if parsed, err := url.Parse(u); err == nil && parsed.User != nil {
			parsed.User = url.User("xxxxx")
			u = parsed.String()
		} else if at := strings.LastIndexByte(u, '@'); at >= 0 {
			u = "xxxxx" + u[at:]
		}
		urls[i] = u
	}
	return strings.Join(urls, ",")
}

// redacted is an error whose text has lost what stands before an @ in it: nats.go puts the server's address, password
// included, into some of its errors.
type redacted struct{ error }

func (r redacted) Error() string {
	words := strings.Split(r.error.Error(), " ")
	for i, w := range words {
		if strings.Contains(w, "@") {
			words[i] = redactURLs(w)
		}
	}
	return strings.Join(words, " ")
}

func (r redacted) Unwrap() error { return r.error }

func redact(err error) error {
	if err == nil {
		return nil
	}
	return redacted{err}
}
