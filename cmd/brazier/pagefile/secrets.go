package pagefile

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/brazier-relay/brazier/sendapi"
)

// Secrets say where a page's credentials are.
type Secrets struct {
	Token, TokenFile, AppSecretFile string
	Variable                        string // name of the one that Token was read from
}

// Read returns the credentials as they are now. Errors name files, never what is in them.
func (s Secrets) Read() (sendapi.Credentials, error) { return s.From(os.ReadFile) }

// From is Read with another way to read a file, which is called with the paths of s and returns what os.ReadFile would.
func (s Secrets) From(read func(path string) ([]byte, error)) (sendapi.Credentials, error) {
	cred := sendapi.Credentials{Token: s.Token}
	var err error
	if s.TokenFile != "" {
		if cred.Token, err = readSecret("token_file", s.TokenFile, read); err != nil {
			return sendapi.Credentials{}, err
		}
	}
	if s.AppSecretFile != "" {
		if cred.AppSecret, err = readSecret("app_secret_file", s.AppSecretFile, read); err != nil {
			return sendapi.Credentials{}, err
		}
	}
	return cred, nil
}

func readSecret(field, path string, read func(path string) ([]byte, error)) (string, error) {
	b, err := read(path)
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
	if err := CheckSecret(value); err != nil {
		return "", fmt.Errorf("%s: %s %w", field, path, err)
	}
	return value, nil
}

// CheckSecret refuses what cannot be a token or an app secret, and would break the header or the URL that it goes into.
func CheckSecret(value string) error {
	if strings.ContainsFunc(value, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return errors.New("holds spaces, line breaks or other characters that no secret has: keep the secret alone")
	}
	return nil
}

// Variables are the names of the variables that tokens were read from.
func Variables(pages []Page) (names []string) {
	for _, p := range pages {
		if p.Secrets.Variable != "" {
			names = append(names, p.Secrets.Variable)
		}
	}
	return names
}
