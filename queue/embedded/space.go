package embedded

import "go.uber.org/zap"

// Bounds of the default of Config.MinFree.
const (
	minFreeAtLeast = 32 << 20
	minFreeAtMost  = 1 << 30
)

// space is the disk under the directory, in bytes. Both are 0 where that cannot be known.
type space struct {
	free  int64 // for this process
	total int64
}

func (sp space) known() bool { return sp.total > 0 }

func (sp space) fields() []zap.Field {
	return []zap.Field{zap.Int64("free_bytes", sp.free), zap.Int64("disk_bytes", sp.total)}
}

func (s *Server) space() space { return measure(s.cfg.Dir) }

// minFree is the reserve in bytes that new messages leave free.
func (s *Server) minFree(disk space) int64 {
	if s.cfg.MinFree != 0 {
		return s.cfg.MinFree
	}
	return min(max(disk.total/10, minFreeAtLeast), minFreeAtMost)
}

// HasSpace reports whether new messages may be stored: whether at least [Config].MinFree is free. Below that new
// messages are to be refused, while stored ones are still delivered and settled, which takes little space and frees
// more. It asks the file system each time (a microsecond or two) and logs when its answer changes.
func (s *Server) HasSpace() bool {
	disk := s.space()
	reserve := s.minFree(disk)
	full := disk.known() && disk.free < reserve
	if s.full.Swap(full) != full {
		fields := append(disk.fields(), zap.Int64("min_free_bytes", reserve))
		if full {
			s.cfg.Log.Error("free disk is below the reserve, new messages are refused", append(fields, zap.String("event", "disk_full"))...)
		} else {
			s.cfg.Log.Info("free disk is above the reserve again", append(fields, zap.String("event", "disk_room"))...)
		}
	}
	return !full
}

// canStart reports whether there is space to start the server.
func (s *Server) canStart() bool {
	s.HasSpace() // logs
	disk := s.space()
	return !disk.known() || disk.free >= min(minStartSpace, s.minFree(disk))
}
