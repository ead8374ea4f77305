import { defineSearchAttributeKey } from '@temporalio/common';

/** Keyword attributes registered in every namespace: `CanopyChute = '…'` finds the chute's whole story. */
export const SEARCH_ATTRIBUTES = {
  hotkey: defineSearchAttributeKey('CanopyHotkey', 'KEYWORD'),
  chute: defineSearchAttributeKey('CanopyChute', 'KEYWORD'),
  instance: defineSearchAttributeKey('CanopyInstance', 'KEYWORD'),
  image: defineSearchAttributeKey('CanopyImage', 'KEYWORD'),
  server: defineSearchAttributeKey('CanopyServer', 'KEYWORD'),
  status: defineSearchAttributeKey('CanopyStatus', 'KEYWORD'),
} as const;
