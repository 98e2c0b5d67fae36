DefinitionBlock ("memory.aml", "SSDT", 1, "OMEGA", "EVIL", 1) {
  Scope (\_SB) {
    Device (EVIL) {
      Name (_HID, "OMEG0001")
      OperationRegion (RAM0, SystemMemory, 0x1000000, 0x1000)
      Field (RAM0, DWordAcc, NoLock, Preserve) { RAMW, 32 }
      OperationRegion (DEV0, SystemMemory, 0xFED00000, 0x400)
      Field (DEV0, DWordAcc, NoLock, Preserve) { DEVW, 32 }
      Method (_STA) { Local0 = DEVW  Printf ("device read %o", Local0)  RAMW = 0x41414141  Return (0xF) }
    }
  }
}
