"""The decisions, as functions of data: no clock, chance, file, socket, asyncio or logging in here."""
