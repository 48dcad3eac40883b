package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/brazier-relay/brazier/sendapi"
)

// secrets say where a page's credentials are.
type secrets struct {
	Token, TokenFile, AppSecretFile string
	Variable                        string // that Token was read from
}

// read returns the credentials as they are now. Errors name files, never what is in them.
func (s secrets) read() (sendapi.Credentials, error) {
	cred := sendapi.Credentials{Token: s.Token}
	var err error
	if s.TokenFile != "" {
		if cred.Token, err = readSecret("token_file", s.TokenFile); err != nil {
			return sendapi.Credentials{}, err
		}
	}
	if s.AppSecretFile != "" {
		if cred.AppSecret, err = readSecret("app_secret_file", s.AppSecretFile); err != nil {
			return sendapi.Credentials{}, err
		}
	}
	return cred, nil
}

func readSecret(field, path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		var cause *os.PathError
		if errors.As(err, &cause) {
			err = cause.Err
		}
		return "", fmt.Errorf("%s: %s cannot be read, check the path and its permissions: %w", field, path, err)
	}
	value := strings.TrimSpace(string(b))
	if value == "" {
		return "", fmt.Errorf("%s: %s is empty: put the secret into it", field, path)
	}
	if err := checkSecret(value); err != nil {
		return "", fmt.Errorf("%s: %s %w", field, path, err)
	}
	return value, nil
}

// checkSecret refuses what cannot be a token or an app secret, and would break the header or the URL that it goes into.
func checkSecret(value string) error {
	if strings.ContainsFunc(value, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return errors.New("holds spaces, line breaks or other characters that no secret has: keep the secret alone")
	}
	return nil
}

// recheck is how old credentials from files may be.
const recheck = 2 * time.Second

// watched are credentials that are read again from their files every few seconds, so that a new token is used without a
// restart. They are safe for concurrent use.
type watched struct {
	secrets secrets

	mu   sync.Mutex
	cred sendapi.Credentials
	err  error
	at   time.Time
}

func (w *watched) credentials() (sendapi.Credentials, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if time.Since(w.at) > recheck {
		w.cred, w.err = w.secrets.read()
		w.at = time.Now()
	}
	return w.cred, w.err
}

// fingerprint names them.
func (w *watched) fingerprint() (string, error) {
	cred, err := w.credentials()
	if err != nil {
		return "", err
	}
	return cred.Fingerprint(), nil
}
