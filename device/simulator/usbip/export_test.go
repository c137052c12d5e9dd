package usbip

import "os"

// ControllerWith is a controller whose file attach is the test's: what the kernel
// does with a socket that it is handed, a file in a folder can't.
func ControllerWith(dir string, attach func(line string, kernel *os.File) error) Controller {
	return Controller{Dir: dir, attach: attach}
}
