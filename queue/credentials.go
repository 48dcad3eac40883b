package queue

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"
)

// Credentials say who this process is to the NATS servers, and whom it trusts. All fields are optional. Files are read again
// whenever a connection is made: one that was replaced counts from the next connection on, and what changes the user's
// password on the servers, which disconnects it, comes after the file. One of CredentialsFile, User and NkeyFile may be
// set; a certificate goes with each, or alone.
type Credentials struct {
	// CredentialsFile is a NATS credentials file (JWT and seed).
	CredentialsFile string
	// User is the name that goes with the password in PasswordFile.
	User string
	// PasswordFile holds the password of User. White space around it is not part of it.
	PasswordFile string
	// NkeyFile holds the seed of a user's nkey.
	NkeyFile string
	// CertFile and KeyFile are PEM files with the certificate that this process shows to the servers, and its private key.
	CertFile, KeyFile string
	// CAFile is a PEM file with the authority that signed the servers' certificates.
	CAFile string
}

// faults returns what is wrong with the fields. url is of the servers.
func (c Credentials) faults(url string) []error {
	var faults []error
	refuse := func(field, fault string) { faults = append(faults, &ConfigError{field, fault}) }
	for _, pair := range []struct{ field, value, other, needs string }{
		{"User", c.User, c.PasswordFile, "needs a password file too"},
		{"PasswordFile", c.PasswordFile, c.User, "needs the name of a user too"},
		{"CertFile", c.CertFile, c.KeyFile, "needs a private key too"},
		{"KeyFile", c.KeyFile, c.CertFile, "needs a certificate too"},
	} {
		if pair.value != "" && pair.other == "" {
			refuse(pair.field, pair.needs)
		}
	}
	if c.User != "" && c.CredentialsFile != "" {
		refuse("User", "must not be set beside a credentials file: both name a user")
	}
	if c.NkeyFile != "" && (c.CredentialsFile != "" || c.User != "") {
		refuse("NkeyFile", "must not be set beside a user or a credentials file: each names a user")
	}
	if hasUser(url) { // nats.go would use that user, and ignore these
		if c.User != "" {
			refuse("User", "must not be set beside a user in the URL of the servers")
		}
		if c.NkeyFile != "" {
			refuse("NkeyFile", "must not be set beside a user in the URL of the servers")
		}
	}
	return faults
}

// hasUser reports whether one of the servers' addresses has a user or a token.
func hasUser(addresses string) bool { return strings.Contains(addresses, "@") }

// ValidateFiles reads the files that the settings name, and returns all faults of them, joined, each a *[ConfigError], or nil.
// No fault has anything of a file's content.
func (c Credentials) ValidateFiles() error {
	var faults []error
	check := func(field, path string, read func(string) error) {
		if path == "" {
			return
		}
		if err := read(path); err != nil {
			fault := err.Error()
			if errors.As(err, new(*os.PathError)) {
				fault += ": check the path and its permissions"
			}
			faults = append(faults, &ConfigError{field, fault})
		}
	}
	check("CredentialsFile", c.CredentialsFile, func(path string) error { _, err := os.ReadFile(path); return err })
	check("PasswordFile", c.PasswordFile, func(path string) error { _, err := readPassword(path); return err })
	check("NkeyFile", c.NkeyFile, func(path string) error { _, err := readNkey(path); return err })
	if c.KeyFile != "" {
		check("CertFile", c.CertFile, func(path string) error { _, err := tls.LoadX509KeyPair(path, c.KeyFile); return err })
	}
	check("CAFile", c.CAFile, readCA)
	return errors.Join(faults...)
}

func readCA(path string) error {
	b, err := os.ReadFile(path)
	if err == nil && !x509.NewCertPool().AppendCertsFromPEM(b) {
		err = fmt.Errorf("%s has no certificate in PEM form", path)
	}
	return err
}

func readPassword(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	password := strings.TrimSpace(string(b))
	if password == "" {
		return "", fmt.Errorf("%s is empty: put the password into it", path)
	}
	return password, nil
}

// options returns the options of the connection.
func (c Credentials) options(log *zap.Logger, nkey *nkeyFile) []nats.Option {
	var opts []nats.Option
	if c.CredentialsFile != "" {
		opts = append(opts, nats.UserCredentials(c.CredentialsFile))
	}
	if c.PasswordFile != "" {
		opts = append(opts, passwordFrom(c.User, c.PasswordFile, log))
	}
	if nkey != nil {
		opts = append(opts, nkey.option)
	}
	if c.CertFile != "" {
		opts = append(opts, nats.ClientCert(c.CertFile, c.KeyFile))
	}
	if c.CAFile != "" {
		opts = append(opts, nats.RootCAs(c.CAFile))
	}
	return opts
}

// passwordFrom reads the password whenever a connection is made. While the file cannot be read, the last password counts: it
// may still be right, and nats.go gives up for good after two refusals.
func passwordFrom(user, path string, log *zap.Logger) nats.Option {
	return func(o *nats.Options) error {
		last, err := readPassword(path)
		if err != nil {
			return &ConfigError{"PasswordFile", err.Error()}
		}
		o.UserInfo = func() (string, string) { // nats.go calls it from one goroutine at a time
			password, err := readPassword(path)
			if err != nil {
				log.Warn("the file of the NATS password cannot be used, the last password is", zap.String("event", "nats_password_error"),
					zap.String("path", path), zap.Error(err))
				return user, last
			}
			last = password
			return user, password
		}
		return nil
	}
}

// nkeyFile signs with the nkey in a file.
//
// nats.go fixes the public key when it first connects, and asks for a signature whenever it does. So where the file has
// another key by then, the attempt fails, and the next one is made with that key.
type nkeyFile struct {
	path string
	conn atomic.Pointer[nats.Conn] // set once nats.go has returned it
}

func newNkeyFile(path string) *nkeyFile {
	if path == "" {
		return nil
	}
	return &nkeyFile{path: path}
}

var errOtherNkey = errors.New("the nkey file has another key than before: it counts from the next attempt on")

func (f *nkeyFile) option(o *nats.Options) error {
	first, err := readNkey(f.path)
	if err != nil {
		return &ConfigError{"NkeyFile", err.Error()}
	}
	public := first.public // belongs to sign, which nats.go calls from one goroutine at a time
	sign := func(nonce []byte) ([]byte, error) {
		now, err := readNkey(f.path)
		if err != nil {
			return nil, err
		}
		if conn := f.conn.Load(); now.public != public {
			if conn != nil {
				public = now.public
				conn.Opts.Nkey = public // nats.go holds its lock around this call, and reads the field under it alone
			}
			return nil, errOtherNkey
		}
		return now.sign(nonce)
	}
	return nats.Nkey(public, sign)(o)
}

// connected is called with the connection of the option, once there is one.
func (f *nkeyFile) connected(nc *nats.Conn) {
	if f != nil {
		f.conn.Store(nc)
	}
}

// nkey is a key as it is in the file now. sign reads the file once more.
type nkey struct {
	public string
	sign   nats.SignatureHandler
}

func readNkey(path string) (nkey, error) {
	var o nats.Options
	option, err := nats.NkeyOptionFromSeed(path)
	if err == nil {
		err = option(&o)
	}
	if errors.As(err, new(*os.PathError)) {
		return nkey{}, err
	}
	if err != nil {
		return nkey{}, fmt.Errorf("%s does not hold the seed of a user's nkey, which begins with SU", path)
	}
	return nkey{o.Nkey, o.SignatureCB}, nil
}
