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

// minFree is what has to stay free of new messages.
func (s *Server) minFree(disk space) int64 {
	if s.cfg.MinFree != 0 {
		return s.cfg.MinFree
	}
	return min(max(disk.total/10, minFreeAtLeast), minFreeAtMost)
}

// HasRoom reports whether new messages may be stored: whether more than Config.MinFree is free. Below that nothing new is
// to be taken, while what was taken is still delivered and settled, which takes little room and makes more. It asks the
// file system each time (a microsecond or two) and logs when its answer changes.
func (s *Server) HasRoom() bool {
	disk := s.space()
	floor := s.minFree(disk)
	full := disk.known() && disk.free < floor
	if s.full.Swap(full) != full {
		fields := append(disk.fields(), zap.Int64("min_free_bytes", floor))
		if full {
			s.cfg.Log.Error("disk is nearly full, new messages are refused", append(fields, zap.String("event", "disk_full"))...)
		} else {
			s.cfg.Log.Info("disk has room again", append(fields, zap.String("event", "disk_room"))...)
		}
	}
	return !full
}

// canStart reports whether there is room to start the server.
func (s *Server) canStart() bool {
	s.HasRoom() // for its log line
	disk := s.space()
	return !disk.known() || disk.free >= min(startRoom, s.minFree(disk))
}
