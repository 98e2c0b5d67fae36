// What a hostile host could put into a guest: each method runs in the guest's kernel.
DefinitionBlock ("memory.aml", "SSDT", 1, "OMEGA", "EVIL", 1) {
  Scope (\_SB) {
    // Writes to guest memory.
    Device (EVIL) {
      Name (_HID, "OMEG0001")
      OperationRegion (RAM0, SystemMemory, 0x1000000, 0x1000)
      Field (RAM0, DWordAcc, NoLock, Preserve) { RAMW, 32 }
      Method (_STA) { RAMW = 0x41414141  Return (0xF) }
    }
    // Reads guest memory.
    Device (SPY0) {
      Name (_HID, "OMEG0002")
      OperationRegion (RAM1, SystemMemory, 0x1000000, 0x1000)
      Field (RAM1, DWordAcc, NoLock, Preserve) { RAMR, 32 }
      Method (_STA) { Local0 = RAMR  Return (Local0 | 0xF) }
    }
    // Reads a device, as honest tables do.
    Device (GOOD) {
      Name (_HID, "OMEG0003")
      OperationRegion (DEV0, SystemMemory, 0xFED00000, 0x400)
      Field (DEV0, DWordAcc, NoLock, Preserve) { DEVR, 32 }
      Method (_STA) { Local0 = DEVR  Return (Local0 | 0xF) }
    }
  }
}
