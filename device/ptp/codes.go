package ptp

import "fmt"

// Operation codes: PIMA 15740:2000 §10.4, from 0x9800 on MTP 1.1 annex D, 0x95c1
// the Android extension of MTP ("android.com").
const (
	OpGetDeviceInfo       uint16 = 0x1001
	OpOpenSession         uint16 = 0x1002
	OpCloseSession        uint16 = 0x1003
	OpGetStorageIDs       uint16 = 0x1004
	OpGetStorageInfo      uint16 = 0x1005
	OpGetObjectHandles    uint16 = 0x1007
	OpGetObjectInfo       uint16 = 0x1008
	OpGetObject           uint16 = 0x1009
	OpGetDevicePropDesc   uint16 = 0x1014
	OpGetDevicePropValue  uint16 = 0x1015
	OpSetDevicePropValue  uint16 = 0x1016
	OpGetPartialObject    uint16 = 0x101b
	OpGetPartialObject64  uint16 = 0x95c1
	OpGetObjectPropValue  uint16 = 0x9803
	PropBatteryLevel      uint16 = 0x5001 // PIMA 15740 §13.3.1
	PropDateTime          uint16 = 0x5011 // §13.3.17
	ObjectPropSize        uint16 = 0xdc04 // MTP 1.1 annex B
	ObjectPropModified    uint16 = 0xdc09
	FormatAssociation     uint16 = 0x3001 // a folder; PIMA 15740 §6.2
	RespOK                uint16 = 0x2001 // PIMA 15740 §11.3
	RespSessionNotOpen    uint16 = 0x2003
	RespNotSupported      uint16 = 0x2005
	RespIncompleteTrans   uint16 = 0x2007
	RespInvalidStorage    uint16 = 0x2008
	RespInvalidHandle     uint16 = 0x2009
	RespPropNotSupported  uint16 = 0x200a
	RespStoreNotAvailable uint16 = 0x2013
	RespDeviceBusy        uint16 = 0x2019
	RespInvalidParent     uint16 = 0x201a
	RespInvalidPropValue  uint16 = 0x201c
	RespInvalidParameter  uint16 = 0x201d
	RespSessionOpen       uint16 = 0x201e
	RespCancelled         uint16 = 0x201f // Transaction_Cancelled
	RespPropUnknown       uint16 = 0xa801 // MTP 1.1 annex F: Invalid_ObjectPropCode
)

// Class requests of the USB Still Image Capture Device Definition 1.0, §5.2.
const (
	ReqCancel       uint8 = 0x64 // Cancel Request
	ReqReset        uint8 = 0x66 // Device Reset Request
	ReqDeviceStatus uint8 = 0x67 // Get Device Status
	// CancelCode is what the data of a Cancel Request begins with.
	CancelCode uint16 = 0x4001
)

// Container types: USB Still Image Capture Device Definition 1.0, §7.1.1.
const (
	ContainerCommand  uint16 = 1
	ContainerData     uint16 = 2
	ContainerResponse uint16 = 3
	ContainerEvent    uint16 = 4
)

// Special values of a storage id, a parent handle and a size.
const (
	// RootObjects as parent asks for what lies in the root (PIMA 15740 §10.4.7).
	RootObjects uint32 = 0xffffffff
	// SizeUnknown as CompressedSize or length of a container: 4 GiB or more
	// (MTP 1.1 §5.3.1 and appendix H).
	SizeUnknown uint32 = 0xffffffff
)

var opNames = map[uint16]string{
	OpGetDeviceInfo: "GetDeviceInfo", OpOpenSession: "OpenSession", OpCloseSession: "CloseSession",
	OpGetStorageIDs: "GetStorageIDs", OpGetStorageInfo: "GetStorageInfo", OpGetObjectHandles: "GetObjectHandles",
	OpGetObjectInfo: "GetObjectInfo", OpGetObject: "GetObject", OpGetDevicePropDesc: "GetDevicePropDesc",
	OpGetDevicePropValue: "GetDevicePropValue", OpSetDevicePropValue: "SetDevicePropValue",
	OpGetPartialObject: "GetPartialObject", OpGetPartialObject64: "GetPartialObject64", OpGetObjectPropValue: "GetObjectPropValue",
}

var respNames = map[uint16]string{
	0x2002: "General_Error", RespSessionNotOpen: "Session_Not_Open", 0x2004: "Invalid_TransactionID",
	RespNotSupported: "Operation_Not_Supported", 0x2006: "Parameter_Not_Supported", RespIncompleteTrans: "Incomplete_Transfer",
	RespInvalidStorage: "Invalid_StorageID", RespInvalidHandle: "Invalid_ObjectHandle", RespPropNotSupported: "DevicePropNotSupported",
	0x200f: "Access_Denied", RespStoreNotAvailable: "Store_Not_Available", RespDeviceBusy: "Device_Busy",
	RespInvalidParent: "Invalid_ParentObject", 0x201b: "Invalid_DeviceProp_Format", RespInvalidPropValue: "Invalid_DeviceProp_Value",
	RespInvalidParameter: "Invalid_Parameter", RespSessionOpen: "Session_Already_Open", RespCancelled: "Transaction_Cancelled",
	RespPropUnknown: "Invalid_ObjectPropCode",
}

// Refusal is a response other than OK.
type Refusal struct {
	Op, Response uint16
}

// Error names the operation and the response as the specification does.
func (r *Refusal) Error() string {
	return fmt.Sprintf("the recorder answered %s with %s", opName(r.Op), respName(r.Response))
}

func opName(op uint16) string {
	if name, ok := opNames[op]; ok {
		return name
	}
	return fmt.Sprintf("operation 0x%04x", op)
}

func respName(code uint16) string {
	if name, ok := respNames[code]; ok {
		return fmt.Sprintf("%s (0x%04x)", name, code)
	}
	return fmt.Sprintf("0x%04x", code)
}
