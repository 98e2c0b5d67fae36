package blockfile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mapper is the device mapper (Linux, include/uapi/linux/dm-ioctl.h).
type mapper struct{ *os.File }

const (
	mapperPath = "/dev/mapper/control"
	headSize   = int(unsafe.Sizeof(unix.DmIoctl{}))
	targetSize = int(unsafe.Sizeof(unix.DmTargetSpec{}))
	bufferSize = 4096
)

func openMapper() (mapper, error) {
	f, err := os.OpenFile(mapperPath, os.O_RDWR, 0)
	if err != nil {
		return mapper{}, fmt.Errorf("device mapper: %w", err)
	}
	return mapper{f}, nil
}

// call makes one request about a device, with data behind its head, and returns the answer.
func (m mapper) call(request uint, name string, flags, targets uint32, data []byte) (*unix.DmIoctl, []byte, error) {
	words := make([]uint64, bufferSize/8) // aligned
	b := unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), bufferSize)
	if headSize+len(data) > bufferSize {
		return nil, nil, errors.New("device mapper: request too long")
	}
	head := (*unix.DmIoctl)(unsafe.Pointer(&words[0]))
	head.Version = [3]uint32{4, 0, 0}
	head.Data_size, head.Data_start = bufferSize, uint32(headSize)
	head.Target_count, head.Flags = targets, flags
	if copy(head.Name[:len(head.Name)-1], name) < len(name) {
		return nil, nil, errors.New("device mapper: name too long")
	}
	copy(b[headSize:], data)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, m.Fd(), uintptr(request), uintptr(unsafe.Pointer(&words[0]))); errno != 0 {
		return nil, nil, fmt.Errorf("device mapper: request %d: %w", request&0xff, errno)
	}
	return head, b[headSize:], nil
}

// create makes a device without a table and returns its minor number.
func (m mapper) create(name string) (uint32, error) {
	head, _, err := m.call(unix.DM_DEV_CREATE, name, 0, 0, nil)
	if err != nil {
		return 0, err
	}
	return unix.Minor(head.Dev), nil
}

// load gives a device its one target, read-only.
func (m mapper) load(name string, sectors uint64, kind, table string) error {
	data := make([]byte, targetSize, targetSize+len(table)+8)
	binary.NativeEndian.PutUint64(data[8:], sectors)
	copy(data[24:40], kind)
	data = append(data, table...)
	data = append(data, make([]byte, 8-len(data)%8)...) // ends the words
	binary.NativeEndian.PutUint32(data[20:], uint32(len(data)))
	_, _, err := m.call(unix.DM_TABLE_LOAD, name, unix.DM_READONLY_FLAG, 1, data)
	return err
}

// resume puts the table to work.
func (m mapper) resume(name string) error {
	_, _, err := m.call(unix.DM_DEV_SUSPEND, name, unix.DM_READONLY_FLAG, 0, nil)
	return err
}

// status returns what the target says of itself.
func (m mapper) status(name string) (string, error) {
	head, data, err := m.call(unix.DM_TABLE_STATUS, name, 0, 0, nil)
	if err != nil {
		return "", err
	}
	if head.Target_count != 1 {
		return "", fmt.Errorf("device mapper: %d targets", head.Target_count)
	}
	return unix.ByteSliceToString(data[targetSize:]), nil
}

func removeDevice(name string) error {
	m, err := openMapper()
	if err != nil {
		return err
	}
	defer m.Close()
	_, _, err = m.call(unix.DM_DEV_REMOVE, name, 0, 0, nil)
	return err
}

// attach puts an image behind a loop device, which goes when nobody has it open.
func attach(name string, image []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("image: %w", err)
	}
	backing := os.NewFile(uintptr(fd), name)
	defer backing.Close()
	if _, err := backing.Write(image); err != nil {
		return nil, fmt.Errorf("image: %w", err)
	}
	return Loop(backing)
}

// Loop puts a file behind a loop device, for reading. It goes when nobody has it
// open or mounted.
func Loop(backing *os.File) (*os.File, error) {
	var err error
	for range loopTries { // somebody else may take the free one first
		var loop *os.File
		if loop, err = tryLoop(backing); !errors.Is(err, unix.EBUSY) {
			return loop, err
		}
	}
	return nil, err
}

const loopTries = 8

func tryLoop(backing *os.File) (*os.File, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("loop device: %w", err)
	}
	defer control.Close()
	number, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
	if err != nil {
		return nil, fmt.Errorf("loop device: %w", err)
	}
	// Not for writing: the kernel mounts no device that somebody may write (BLK_DEV_WRITE_MOUNTED).
	loop, err := os.Open(fmt.Sprintf("/dev/loop%d", number))
	if err != nil {
		return nil, fmt.Errorf("loop device: %w", err)
	}
	config := &unix.LoopConfig{Fd: uint32(backing.Fd()), Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_READ_ONLY | unix.LO_FLAGS_AUTOCLEAR}}
	if err := unix.IoctlLoopConfigure(int(loop.Fd()), config); err != nil {
		return nil, errors.Join(fmt.Errorf("loop device: %w", err), loop.Close())
	}
	return loop, nil
}
