package process

import (
	"slices"

	"github.com/brazier-relay/brazier/cmd/brazier/pagefile"
	"github.com/brazier-relay/brazier/sendapi"
)

// credentials are what a page has now, as its files were last read: a new token is used without a restart. They are safe
// for concurrent use, and asking for them never waits for a disk.
type credentials struct {
	secrets          pagefile.Secrets
	token, appSecret *file // nil: there is none
}

// credentials follows the files of a page's secrets until release is called.
func (f *files) credentials(secrets pagefile.Secrets) *credentials {
	c := &credentials{secrets: secrets}
	if secrets.TokenFile != "" {
		c.token = f.follow(secrets.TokenFile, nil)
	}
	if secrets.AppSecretFile != "" {
		c.appSecret = f.follow(secrets.AppSecretFile, nil)
	}
	return c
}

func (c *credentials) files() []*file {
	return slices.DeleteFunc([]*file{c.token, c.appSecret}, func(f *file) bool { return f == nil })
}

// current returns the credentials. Errors name files, never what is in them.
func (c *credentials) current() (sendapi.Credentials, error) {
	return c.secrets.From(func(path string) ([]byte, error) {
		if c.token != nil && path == c.secrets.TokenFile {
			return c.token.last()
		}
		return c.appSecret.last()
	})
}

// fingerprint names them without giving them away.
func (c *credentials) fingerprint() (string, error) {
	cred, err := c.current()
	if err != nil {
		return "", err
	}
	return cred.Fingerprint(), nil
}
