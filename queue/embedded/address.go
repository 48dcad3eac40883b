package embedded

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"

	"github.com/nats-io/nats-server/v2/server"
)

// AddressFile is the file in the directory that says how other processes of this machine reach the running server. Only
// its owner can read it, since it holds the password of this run. It is gone when the server is.
const AddressFile = "nats.json"

type address struct {
	URL string `json:"url"` // user and password included
}

// ErrNoServer says that no server has written its address into the directory.
var ErrNoServer = errors.New("no server runs in it")

// Address returns the URL of the server that runs in dir, in whichever process. It holds the password: keep it out of
// logs. The server may have ended since.
func Address(dir string) (string, error) {
	b, err := os.ReadFile(filepath.Join(dir, AddressFile))
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("embedded: %s: %w", dir, ErrNoServer)
	}
	if err != nil {
		return "", fmt.Errorf("embedded: %w", err)
	}
	var a address
	if err := json.Unmarshal(b, &a); err != nil || a.URL == "" {
		return "", fmt.Errorf("embedded: %s has no address in it: start the server again, which writes the file anew", filepath.Join(dir, AddressFile))
	}
	return a.URL, nil
}

// writeAddress writes the file as a whole or not at all.
func writeAddress(dir string, at net.Addr, pass passwordCheck) error {
	u := url.URL{Scheme: "nats", User: url.UserPassword(user, string(pass)), Host: at.String()}
	b, err := json.Marshal(address{u.String()})
	if err != nil {
		return err
	}
	path := filepath.Join(dir, AddressFile)
	half := path + ".new"
	_ = os.Remove(half) // of a process that was killed: os.WriteFile would keep the mode of that file
	if err := os.WriteFile(half, append(b, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(half, path)
}

func removeAddress(dir string) error {
	if err := os.Remove(filepath.Join(dir, AddressFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// user is the name that goes with the password. Every client is the same user: whoever can read the file can read the
// directory.
const user = "brazier"

// passwordCheck admits connections through a socket with this password, and connections from inside this process.
type passwordCheck string

// newPassword returns one of at least 128 random bits, in characters that need no escaping in a URL.
func newPassword() passwordCheck { return passwordCheck(rand.Text()) }

// Check implements nats-server's Authentication.
func (p passwordCheck) Check(c server.ClientAuthentication) bool {
	if at := c.RemoteAddress(); at != nil && at.Network() == inProcess {
		return true
	}
	given := c.GetOpts()
	return subtle.ConstantTimeCompare([]byte(given.Username), []byte(user))&
		subtle.ConstantTimeCompare([]byte(given.Password), []byte(p)) == 1
}

// inProcess is the network of a net.Pipe, over which InProcessConn connects. No socket has it.
const inProcess = "pipe"
