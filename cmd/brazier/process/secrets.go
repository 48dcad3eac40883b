package process

import (
	"strings"

	"github.com/brazier-relay/brazier/cmd/brazier/pagefile"
)

// secrets are what stands in some files now, as they were last read. They are safe for concurrent use, and asking for them never
// waits for a disk.
type secrets struct {
	all   *files
	field string
	paths []string
	each  []*file
}

// secrets follows files, each with one secret, until release is called. field is how the page file calls them.
func (f *files) secrets(field string, paths []string) *secrets {
	s := &secrets{all: f, field: field, paths: paths}
	for _, path := range paths {
		s.each = append(s.each, f.follow(path, nil))
	}
	return s
}

// current returns the secrets. Errors name files, never what is in them.
func (s *secrets) current() ([][]byte, error) {
	return pagefile.ReadSecrets(s.field, s.paths, func(path string) ([]byte, error) {
		for i, p := range s.paths {
			if p == path {
				return s.each[i].last()
			}
		}
		panic("process: a file that is not followed")
	})
}

// one returns the only secret, as a string.
func (s *secrets) one() (string, error) {
	all, err := s.current()
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(all[0])), nil
}

func (s *secrets) release() {
	for _, f := range s.each {
		s.all.release(f)
	}
}

func releaseAll(all []*secrets) {
	for _, s := range all {
		s.release()
	}
}

// freshSecrets has them read once, but for files that take too long.
func freshSecrets(all []*secrets) {
	var reads []*file
	for _, s := range all {
		reads = append(reads, s.each...)
	}
	fresh(reads...)
}
