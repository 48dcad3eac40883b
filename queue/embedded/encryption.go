package embedded

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/nats-io/nats-server/v2/server"
)

// Encryption
//
// With a key nats-server encrypts what it writes: messages, their subjects, and the state of streams. Each stream and each block
// of messages has a random key of its own, in a file beside it that is encrypted with a key made from this one. Names of streams, sizes
// and times of files stay readable.
//
// Left to itself, nats-server 2.15.2 would do harm with another key than before. Streams that it cannot decrypt it leaves out, with a
// warning, as if they were not there (jetstream.go, doStream). Plain streams it encrypts when it starts, block by block, each written
// over itself (filestore.go, convertToEncrypted): a crash or a full disk halfway loses the block. So both are refused here.

// minKey is the shortest key in characters: 128 bits, if they are hexadecimal digits.
const minKey = 32

var (
	// ErrEncrypted says that the files of a directory are encrypted, and no key was given.
	ErrEncrypted = errors.New("its files are encrypted")
	// ErrNotEncrypted says that the files of a directory are not encrypted, although a key was given.
	ErrNotEncrypted = errors.New("its files are not encrypted, and cannot be encrypted in place without the risk of losing messages")
	// ErrWrongKey says that the files of a directory are encrypted with another key.
	ErrWrongKey = errors.New("its files are encrypted with another key")
)

// ReadKey reads [Config].Key from a file. White space around it is not part of it. An error has nothing of the content.
func ReadKey(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("%w: check the path and its permissions", err)
	}
	key := strings.TrimSpace(string(b))
	if err := checkKey(key); err != nil {
		return "", fmt.Errorf("%s: the key %w", path, err)
	}
	return key, nil
}

func checkKey(key string) error {
	if len(key) < minKey {
		return fmt.Errorf("must have at least %d characters (got %d): make one with openssl rand -hex 32", minKey, len(key))
	}
	return nil
}

// checkEncryption compares what is in the directory with whether there is a key.
func checkEncryption(cfg Config) error {
	streams, err := filepath.Glob(filepath.Join(escape(cfg.Dir), server.JetStreamStoreDir, "*", "streams", "*", server.JetStreamMetaFile))
	if err != nil {
		return err
	}
	for _, meta := range streams {
		name := filepath.Base(filepath.Dir(meta))
		if strings.HasPrefix(name, ".") { // is being removed
			continue
		}
		_, err := os.Stat(filepath.Join(filepath.Dir(meta), server.JetStreamMetaFileKey))
		switch encrypted := err == nil; {
		case err != nil && !errors.Is(err, os.ErrNotExist):
			return err
		case encrypted && cfg.Key == "":
			return fmt.Errorf("%s: %w", cfg.Dir, ErrEncrypted)
		case !encrypted && cfg.Key != "":
			return fmt.Errorf("%s: %w", cfg.Dir, ErrNotEncrypted)
		}
	}
	return nil
}

// escape has a path taken as it is by filepath.Glob.
func escape(path string) string {
	if os.PathSeparator == '\\' { // there Glob has no escapes, and no file name has * or ?
		return path
	}
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// notDecrypted is in the line that nats-server 2.15.2 logs of each stream that it leaves out for its key (jetstream.go, doStream).
const notDecrypted = "error decrypting our stream metafile"
